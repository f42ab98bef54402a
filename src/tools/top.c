/* SPDX-License-Identifier: PostgreSQL */
/*
 * The loop of pgleasestat --top, and what its keys do: one table, from which its help is made too. The terminal is given back at
 * whatever end: keys, signals, a terminal that goes away.
 */
#include "top.h"

#include <curses.h>
#include <errno.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <term.h>
#include <time.h>
#include <unistd.h>

#include "top_priv.h"

#define SECOND UINT64_C(1000000000)
#define INTERVAL_MIN (SECOND / 10)
#define INTERVAL_MAX (60 * SECOND)
#define KEY_ESCAPE 27
#define KEY_DELETE 127

static bool leave;

static uint64_t
now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * SECOND + (uint64_t)ts.tv_nsec;
}

/* A broker that was started again has another segment: the name is opened each time. */
static void
look(struct top *top)
{
	struct stats_reader *reader;
	int r = stats_reader_open(top->options->instance, &reader);

	stats_snapshot_fini(&top->snapshot);
	memset(&top->snapshot, 0, sizeof(top->snapshot));
	if (r == 0) {
		r = stats_reader_snapshot(reader, &top->snapshot);
		stats_reader_close(reader);
	}
	top->error = r;
	if (r == 0)
		top_remember(top);
}

/* --- Keys. --- */

static void
quit(struct top *top)
{
	(void)top;
	leave = true;
}

static void
help(struct top *top)
{
	top->help = !top->help;
}

static void
pause_or_go_on(struct top *top)
{
	top->paused = !top->paused;
}

static void
show(struct top *top, enum top_view view)
{
	top->view = view;
	top->selected = top->first = 0;
}

static void
next_view(struct top *top)
{
	show(top, (top->view + 1) % TOP_NVIEWS);
}

static void
show_pools(struct top *top)
{
	show(top, TOP_POOLS);
}

static void
show_slots(struct top *top)
{
	show(top, TOP_SLOTS);
}

static void
show_clients(struct top *top)
{
	show(top, TOP_CLIENTS);
}

static void
show_waiters(struct top *top)
{
	show(top, TOP_WAITERS);
}

/* Columns that have a name: the sparkline is no order. */
static void
sort_by(struct top *top, unsigned step)
{
	const struct top_table *table = &top_tables[top->view];
	unsigned *by = &top->sorted_by[top->view];

	do
		*by = (*by + step) % table->count;
	while (table->column[*by].name == NULL);
}

static void
sort_right(struct top *top)
{
	sort_by(top, 1);
}

static void
sort_left(struct top *top)
{
	sort_by(top, top_tables[top->view].count - 1);
}

static void
reverse(struct top *top)
{
	top->reversed[top->view] = !top->reversed[top->view];
}

static void
begin_filter(struct top *top)
{
	top->typing = true;
}

static void
up(struct top *top)
{
	if (top->selected > 0)
		top->selected--;
}

static void
down(struct top *top)
{
	top->selected++; /* draw() knows how many there are */
}

static void
page_up(struct top *top)
{
	unsigned page = (unsigned)top_screen_rows(top);

	top->selected -= top->selected < page ? top->selected : page;
}

static void
page_down(struct top *top)
{
	top->selected += (unsigned)top_screen_rows(top);
}

static void
to_first(struct top *top)
{
	top->selected = 0;
}

static void
to_last(struct top *top)
{
	top->selected = TOP_ROWS;
}

static void
slower(struct top *top)
{
	top->interval_ns = top->interval_ns * 2 > INTERVAL_MAX ? INTERVAL_MAX : top->interval_ns * 2;
}

static void
faster(struct top *top)
{
	top->interval_ns = top->interval_ns / 2 < INTERVAL_MIN ? INTERVAL_MIN : top->interval_ns / 2;
}

const struct top_key top_keys[] = {
    {'q', "q", "end", quit},
    {'h', "h", "this help, and back", help},
    {'?', "?", NULL, help},
    {KEY_F(1), "F1", NULL, help},
    {' ', "Space", "stop looking, and go on", pause_or_go_on},
    {'\t', "Tab", "the next view", next_view},
    {'P', "P", "pools", show_pools},
    {'S', "S", "slots: server connections, who has them, and from where", show_slots},
    {'C', "C", "clients: attached processes", show_clients},
    {'W', "W", "waiters", show_waiters},
    {'>', ">", "sort by the column to the right", sort_right},
    {'s', "s", NULL, sort_right},
    {'<', "<", "sort by the column to the left", sort_left},
    {'r', "r", "the other way round", reverse},
    {'/', "/", "only what has this text; Enter keeps it, Escape drops it", begin_filter},
    {KEY_UP, "Up", "one up", up},
    {'k', "k", NULL, up},
    {KEY_DOWN, "Down", "one down", down},
    {'j', "j", NULL, down},
    {KEY_PPAGE, "PgUp", "a page up", page_up},
    {KEY_NPAGE, "PgDn", "a page down", page_down},
    {KEY_HOME, "Home", "to the first", to_first},
    {KEY_END, "End", "to the last", to_last},
    {'+', "+", "look half as often", slower},
    {'-', "-", "look twice as often", faster},
};
const unsigned top_nkeys = sizeof(top_keys) / sizeof(top_keys[0]);

static void
type(struct top *top, int key)
{
	size_t n = strlen(top->filter);

	if (key == KEY_ESCAPE) {
		top->filter[0] = '\0';
		top->typing = false;
	} else if (key == '\n' || key == '\r' || key == KEY_ENTER) {
		top->typing = false;
	} else if (key == KEY_BACKSPACE || key == KEY_DELETE || key == '\b') {
		if (n > 0)
			top->filter[n - 1] = '\0';
	} else if (key >= ' ' && key < KEY_DELETE && n + 1 < sizeof(top->filter)) {
		top->filter[n] = (char)key;
		top->filter[n + 1] = '\0';
	}
	top->selected = top->first = 0;
}

static void
press(struct top *top, int key)
{
	if (top->typing) {
		type(top, key);
		return;
	}
	if (top->help && key != 'q') {
		top->help = false;
		return;
	}
	if (key == KEY_ESCAPE)
		top->filter[0] = '\0';
	for (unsigned i = 0; i < top_nkeys; i++) {
		if (top_keys[i].key == key) {
			top_keys[i].act(top);
			return;
		}
	}
}

/* --- The terminal. --- */

/* Another size: curses is told, for SIGWINCH is taken from it. */
static void
resize(void)
{
	struct winsize size;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0 && size.ws_col > 0)
		resizeterm(size.ws_row, size.ws_col);
}

/* SIGTSTP stays curses' own: it gives the terminal back, and takes it again. */
static int
take_signals(sigset_t *ret_before)
{
	sigset_t signals;
	int fd;

	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGQUIT);
	sigaddset(&signals, SIGWINCH);
	if (sigprocmask(SIG_BLOCK, &signals, ret_before) != 0)
		return -errno;
	fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

static void
on_signal(int fd)
{
	struct signalfd_siginfo info;

	while (read(fd, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo == SIGWINCH)
			resize();
		else
			leave = true;
	}
}

static void
run(struct top *top, int signals)
{
	uint64_t next = now_ns();

	while (!leave) {
		struct pollfd fds[] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.fd = signals, .events = POLLIN}};
		uint64_t now = now_ns();
		int key;

		if (!top->paused && now >= next) {
			look(top);
			next = now + top->interval_ns;
		}
		top_draw(top);
		if (poll(fds, 2, top->paused ? -1 : (int)((next - now) / 1000000) + 1) < 0 && errno != EINTR)
			return;
		if ((fds[1].revents & POLLIN) != 0)
			on_signal(signals);
		while (!leave && (key = getch()) != ERR)
			press(top, key);
		/* The terminal has gone. */
		if ((fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) != 0)
			leave = true;
		if (next > now_ns() + top->interval_ns)
			next = now_ns() + top->interval_ns;
	}
}

int
top_run(const struct stat_options *options, FILE *err)
{
	struct top *top;
	sigset_t before;
	int signals, why;

	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)) {
		fputs("pgleasestat: --top needs a terminal; -w prints again and again\n", err);
		return -ENOTTY;
	}
	setlocale(LC_ALL, "");
	if (setupterm(NULL, STDOUT_FILENO, &why) != OK) {
		fprintf(err, "pgleasestat: --top does not know the terminal %s (TERM)\n",
		    getenv("TERM") != NULL ? getenv("TERM") : "");
		return -ENOTTY;
	}
	top = calloc(1, sizeof(*top));
	if (top == NULL)
		return -ENOMEM;
	signals = take_signals(&before);
	if (signals < 0) {
		free(top);
		return signals;
	}
	top->options = options;
	top->interval_ns = options->interval_ns != 0 ? options->interval_ns : SECOND;
	top->utf8 = strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
	for (unsigned i = 0; i < TOP_NVIEWS; i++)
		top->sorted_by[i] = top_tables[i].sorted_by;
	initscr();
	cbreak();
	noecho();
	nonl();
	curs_set(0);
	keypad(stdscr, TRUE);
	nodelay(stdscr, TRUE);
	set_escdelay(25);
	if (has_colors()) {
		start_color();
		use_default_colors();
	}
	run(top, signals);
	endwin();
	close(signals);
	sigprocmask(SIG_SETMASK, &before, NULL);
	stats_snapshot_fini(&top->snapshot);
	free(top);
	return 0;
}
