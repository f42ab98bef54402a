/* SPDX-License-Identifier: PostgreSQL */
/*
 * From the command line to a running instance. With -d the broker is a child; its parent waits at a pipe for "R" (it
 * serves) or for the reason why it does not, and ends with the status that this deserves.
 */
#include "daemon.h"

#include <config.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "activation.h"
#include "access.h"
#include "agreement.h"
#include "handover.h"
#include "instance.h"
#include "log.h"

struct options {
	const char *file, *name;
	bool background, check, done;
	bool agreement; /* asked by a broker whose place this program may take */
	const char *set[INSTANCE_MAX_SET]; /* a restarted broker's */
	unsigned nset;
	int take_over; /* the state of the one whose place it takes; -1: none */
};

static const char usage[] =
    "Usage: pgleased [-c FILE] [-n NAME] [-d | -t]\n"
    "The pglease broker: opens PostgreSQL connections and lends them to the processes of this host.\n"
    "\n"
    "  -c FILE  configuration file; without one: instance \"main\" with one pool \"main\" on an embedded "
    "PostgreSQL\n"
    "  -n NAME  name of the instance (overrides the file's)\n"
    "  -d       run in the background: returns when the instance is ready, or says why it is not and exits "
    "1\n"
    "  -t       check the configuration only: says all that is wrong, and exits 1 if anything is\n"
    "  -V       version\n"
    "  -h       this help\n"
    "  --help-config[=table|sample|mdoc]\n"
    "           the settings: for people (the default), as a sample file, as the manual's table\n";

static int
help_config(const char *format)
{
	if (format == NULL || strcmp(format, "table") == 0) {
		settings_print_help(stdout);
	} else if (strcmp(format, "sample") == 0) {
		settings_print_sample(stdout);
	} else if (strcmp(format, "mdoc") == 0) {
		settings_print_manual(stdout);
	} else {
		fprintf(stderr, "pgleased: bad format \"%s\": allowed: table, sample, mdoc\n", format);
		return -1;
	}
	return 0;
}

static int
parse_options(int argc, char **argv, struct options *o)
{
	enum { HELP_CONFIG = 256, AGREEMENT, TAKE_OVER, SET };
	static const struct option names[] = {
	    {"help-config", optional_argument, NULL, HELP_CONFIG},
	    {"agreement", no_argument, NULL, AGREEMENT},       /* these three are */
	    {"take-over", required_argument, NULL, TAKE_OVER}, /* restart.c's */
	    {"set", required_argument, NULL, SET},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {0},
	};
	int c;

	opterr = 0;
	while ((c = getopt_long(argc, argv, ":c:n:dtVh", names, NULL)) != -1) {
		switch (c) {
		case 'c':
			o->file = optarg;
			break;
		case 'n':
			o->name = optarg;
			break;
		case 'd':
			o->background = true;
			break;
		case 't':
			o->check = true;
			break;
		case 'V':
			printf("pgleased (pglease) %s\n", PACKAGE_VERSION);
			o->done = true;
			return 0;
		case 'h':
			fputs(usage, stdout);
			o->done = true;
			return 0;
		case AGREEMENT:
			o->agreement = true;
			break;
		case TAKE_OVER:
			o->take_over = atoi(optarg);
			break;
		case SET:
			if (o->nset < INSTANCE_MAX_SET)
				o->set[o->nset++] = optarg;
			break;
		case HELP_CONFIG:
			o->done = true;
			return help_config(optarg);
		default:
			if (c == ':')
				fprintf(stderr, "pgleased: option '%s' needs a value (pgleased -h helps)\n", argv[optind - 1]);
			else if (optopt > 0 && optopt < HELP_CONFIG)
				fprintf(stderr, "pgleased: unknown option '-%c' (pgleased -h helps)\n", optopt);
			else
				fprintf(stderr, "pgleased: unknown option '%s' (pgleased -h helps)\n", argv[optind - 1]);
			return -1;
		}
	}
	if (optind < argc) {
		fprintf(stderr, "pgleased: unexpected argument: %s\n", argv[optind]);
		return -1;
	}
	if (o->name != NULL && paths_check_name(o->name) != 0) {
		fprintf(stderr, "pgleased: bad name \"%s\": allowed: 1 to 47 letters, digits, '_' and '-'\n",
		    o->name);
		return -1;
	}
	return 0;
}

struct complaints {
	unsigned count;
	bool all; /* each goes to stderr */
	char first[1024];
};

static void
take_complaint(void *context, const char *message)
{
	struct complaints *c = context;

	if (c->count++ == 0)
		snprintf(c->first, sizeof(c->first), "%s", message);
	if (c->all)
		fprintf(stderr, "%s\n", message);
}

/* -t */
static int
check_configuration(const struct options *o)
{
	struct complaints complaints = {.all = true};
	struct configuration *config;

	if (configuration_read(o->file, take_complaint, &complaints, &config) != 0)
		return 1;
	configuration_free(config);
	printf("%s: ok\n", o->file != NULL ? o->file : "configuration");
	return fflush(stdout) == 0 ? 0 : 1;
}

/* The file, and what the command line has in the place of what it says. */
static int
read_all(const struct options *o, configuration_complain complain, void *context, struct configuration **ret)
{
	int r = configuration_read(o->file, complain, context, ret);

	if (r != 0)
		return r;
	for (unsigned i = 0; i < o->nset; i++)
		if (configuration_set(*ret, o->set[i], complain, context) != 0)
			r = -1;
	if (r != 0)
		configuration_free(*ret);
	else if (o->name != NULL)
		snprintf((*ret)->instance.instance, sizeof((*ret)->instance.instance), "%s", o->name);
	return r;
}

static int
read_configuration(const struct options *o, struct configuration **ret)
{
	struct complaints complaints = {0};

	if (read_all(o, take_complaint, &complaints, ret) != 0) {
		if (complaints.count > 1)
			return log_refuse("%s (and %u more: pgleased -t says all)", complaints.first,
			    complaints.count - 1);
		return log_refuse("%s", complaints.first);
	}
	return 0;
}

/* In the background: leaves the terminal and tells the parent. */
static void
tell_parent(void *context)
{
	int *report = context, null;

	if (*report < 0)
		return;
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		if (!log_is_on_stderr()) /* then it was asked for */
			dup2(null, STDERR_FILENO);
		close(null);
	}
	if (write(*report, "R", 1) != 1)
		log_warning("whoever started the broker has gone");
	close(*report);
	*report = -1;
}

/* For a broker that wants to know whether this program could take its place. */
static void
give_reason(void *context, const char *message)
{
	bool *refused = context;

	if (!*refused)
		agreement_refuse(stdout);
	*refused = true;
	agreement_reason(message, stdout);
}

static int
say_agreement(const struct options *o)
{
	struct configuration *config;
	bool refused = false;
	gid_t group;

	if (read_all(o, give_reason, &refused, &config) == 0) {
		const char *monitors = config->instance.monitor_group;

		if (log_check((enum log_target)config->instance.log) != 0)
			give_reason(&refused, log_reason());
		/* As the running broker's process, whose groups stay what they were when it was started. */
		if (*monitors != '\0' && access_group(monitors, &group) == 0 && !access_may_give_to(group))
			give_reason(&refused, "monitor_group: the broker's user was not of this group when the broker was started");
		if (!refused)
			agreement_print(config, NULL, stdout);
		configuration_free(config);
	}
	return fflush(stdout) == 0 ? 0 : 1;
}

/* A path that is still good when the folder has changed. Lives as long as the process. */
static const char *
absolute(const char *path)
{
	static char buf[2][PATHS_MAX];
	static unsigned used;
	char *to = buf[used], folder[PATHS_MAX];
	int n;

	if (path == NULL || path[0] == '/')
		return path;
	if (used == 2 || getcwd(folder, sizeof(folder)) == NULL)
		return NULL;
	n = snprintf(to, PATHS_MAX, "%s/%s", folder, path);
	used++;
	return n < PATHS_MAX ? to : NULL;
}

/*
 * The path by which the program was started, for that may lead to another version later, as /proc/self/exe does not; which is
 * the one that there is when it was looked for in PATH.
 */
static const char *
find_program(const char *argv0)
{
	static char found[PATHS_MAX];
	const char *path = argv0 != NULL && strchr(argv0, '/') != NULL ? absolute(argv0) : NULL;
	ssize_t n;

	if (path != NULL && access(path, X_OK) == 0)
		return path;
	n = readlink("/proc/self/exe", found, sizeof(found) - 1);
	if (n <= 0)
		return NULL;
	found[n] = '\0';
	return found;
}

static void
set_log_up(const struct configuration *config, bool background)
{
	const struct instance_settings *s = &config->instance;

	log_setup((enum log_level)s->log_level, (enum log_target)s->log, background, s->instance);
}

/* The one line that tells why there is no broker any more. */
static void
cannot_take_over(const struct configuration *config, bool background)
{
	if (config == NULL)
		log_setup(LOG_LEVEL_INFO, LOG_TO_AUTO, background, NULL);
	else
		set_log_up(config, background);
	log_error("this program cannot take the place of the broker before it; start it, and workers attach again: %s",
	    log_reason());
}

static int
serve(const struct instance_params *params, int report)
{
	const struct configuration *config = params->configuration;
	struct instance_params own = *params;
	struct instance *instance;

	umask(022);
	own.ready = tell_parent;
	own.context = &report;
	set_log_up(config, params->origin.background);
	/* One that takes another's place has looked before; if the journal is away just now, lines are lost, and no leases. */
	if ((params->from == NULL && log_check((enum log_target)config->instance.log) != 0) || instance_start(&own, &instance) != 0) {
		if (params->from != NULL)
			cannot_take_over(config, params->origin.background);
		if (report >= 0 && write(report, log_reason(), strlen(log_reason())) < 0)
			log_error("%s", log_reason());
		return 1;
	}
	instance_run(instance);
	instance_stop(instance);
	return 0;
}

/* Waits for the child to be ready. Returns the exit status. */
static int
await_child(int fd)
{
	char text[1100];
	size_t used = 0;
	ssize_t n;

	while (used < sizeof(text) - 1 && (n = read(fd, text + used, sizeof(text) - 1 - used)) != 0) {
		if (n < 0 && errno != EINTR)
			break;
		used += n > 0 ? (size_t)n : 0;
	}
	if (used == 1 && text[0] == 'R')
		return 0;
	text[used] = '\0';
	fprintf(stderr, "pgleased: %s\n", used != 0 ? text : "the broker ended before it was ready");
	return 1;
}

static int
serve_in_background(const struct instance_params *params)
{
	int report[2], status;
	pid_t pid;

	if (pipe2(report, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		fprintf(stderr, "pgleased: cannot go to the background: %s\n", strerror(errno));
		return 1;
	}
	if (pid == 0) {
		close(report[0]);
		setsid();
		if (chdir("/") != 0)
			log_warning("cannot leave the present folder: %m");
		return serve(params, report[1]);
	}
	close(report[1]);
	status = await_child(report[0]);
	close(report[0]);
	if (status != 0)
		waitpid(pid, NULL, 0); /* it is about to end: it has said why, or closed its pipe */
	return status;
}

int
daemon_main(int argc, char **argv)
{
	struct options options = {.take_over = -1};
	struct configuration *config = NULL;
	struct instance_params params;
	struct handover *from = NULL;
	int status;

	/* Who starts this may have it ignored: the kernel would then reap what the broker, or this for one in the background, waits for. */
	signal(SIGCHLD, SIG_DFL);
	if (parse_options(argc, argv, &options) != 0)
		return 1;
	if (options.done)
		return fflush(stdout) == 0 ? 0 : 1;
	if (options.check)
		return check_configuration(&options);
	if (options.agreement)
		return say_agreement(&options);
	if (activation_begin() != 0 || (options.take_over >= 0 && handover_open(options.take_over, &from) != 0) ||
	    read_configuration(&options, &config) != 0) {
		if (options.take_over >= 0)
			cannot_take_over(NULL, options.background);
		else
			fprintf(stderr, "pgleased: %s\n", log_reason());
		return 1;
	}
	params = (struct instance_params){
	    .configuration = config,
	    .origin = {.program = find_program(argv[0]),
		.file = absolute(options.file),
		.name = options.name,
		.background = options.background,
		.nset = options.nset},
	    .from = from,
	};
	memcpy(params.origin.set, options.set, sizeof(options.set));
	if (options.background && from == NULL) {
		status = serve_in_background(&params);
	} else {
		status = serve(&params, -1);
		if (status != 0 && from == NULL)
			fprintf(stderr, "pgleased: %s\n", log_reason());
	}
	handover_free(from);
	configuration_free(config);
	return status;
}
