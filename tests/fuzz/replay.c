/* SPDX-License-Identifier: PostgreSQL */
/*
 * Replays the inputs that were kept for a target, from tests/fuzz/corpus/TARGET: each file and beginnings of it, and each line of
 * the file `found`; one line of TAP. Without libFuzzer, so that any compiler will do. With arguments: these files, and nothing else.
 */
#include <dirent.h>
#include <errno.h>
#include <unistd.h>

#include "fuzz.h"

#define BEGINNINGS 24
#define INPUT_MAX (1 << 20)
#define FOUND "found" /* many small inputs, a line each */

static void
play(const uint8_t *bytes, size_t size)
{
	/* Exactly as large as it is: a sanitizer, or malloc's own checks, see what goes beyond. */
	uint8_t *copy = malloc(size);

	fuzz_must(copy != NULL || size == 0);
	if (size > 0)
		memcpy(copy, bytes, size);
	LLVMFuzzerTestOneInput(copy, size);
	free(copy);
}

/* One of FOUND's lines, in place: a backslash, a zero and three octal digits for each byte. */
static bool
replay_line(char *line, unsigned number)
{
	uint8_t *to = (uint8_t *)line;
	size_t n = 0;

	for (const char *at = line; *at != '\0' && *at != '\n'; at += 5, n++) {
		if (strspn(at, "\\") != 1 || strspn(at + 1, "01234567") < 4 || at[1] != '0')
			return false;
		to[n] = (uint8_t)((at[2] - '0') << 6 | (at[3] - '0') << 3 | (at[4] - '0'));
	}
	printf("# line %u\n", number);
	fflush(stdout);
	play(to, n);
	return true;
}

static bool
replay_found(const char *path)
{
	FILE *f = fopen(path, "re");
	unsigned number = 0;
	size_t size = 0;
	char *line = NULL;
	bool good = f != NULL;

	while (good && getline(&line, &size, f) > 0)
		good = replay_line(line, ++number);
	free(line);
	if (f != NULL)
		fclose(f);
	if (!good)
		printf("# %s: cannot be read, or line %u is none\n", path, number);
	return good;
}

static bool
replay(const char *path, bool beginnings)
{
	uint8_t *bytes = malloc(INPUT_MAX);
	FILE *f = fopen(path, "rb");
	size_t size;

	if (f == NULL || bytes == NULL) {
		printf("# cannot read %s: %s\n", path, strerror(errno));
		free(bytes);
		return false;
	}
	size = fread(bytes, 1, INPUT_MAX, f);
	fclose(f);
	/* The last line before a crash says which it was. */
	printf("# %s\n", path);
	fflush(stdout);
	play(bytes, size);
	for (unsigned i = 0; beginnings && i < BEGINNINGS; i++)
		play(bytes, size * i / BEGINNINGS);
	free(bytes);
	return true;
}

static int
is_input(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

int
main(int argc, char **argv)
{
	const char *source = getenv("PGLEASE_SRCDIR"), *name = strrchr(argv[0], '/');
	struct dirent **entry = NULL;
	char path[1024];
	bool good = true;
	int n;

	name = name != NULL ? name + 1 : argv[0];
	if (strncmp(name, "lt-", 3) == 0)
		name += 3;
	if (strncmp(name, "fuzz_", 5) == 0)
		name += 5;
	if (argc > 1) {
		for (int i = 1; i < argc; i++)
			good = replay(argv[i], false) && good;
		return good ? EXIT_SUCCESS : EXIT_FAILURE;
	}
	printf("1..1\n");
	snprintf(path, sizeof(path), "%s/tests/fuzz/corpus/%s", source != NULL ? source : ".", name);
	n = scandir(path, &entry, is_input, alphasort);
	for (int i = 0; i < n; i++) {
		char file[2048];

		snprintf(file, sizeof(file), "%s/%s", path, entry[i]->d_name);
		printf("# %s\n", file);
		good = (strcmp(entry[i]->d_name, FOUND) == 0 ? replay_found(file) : replay(file, true)) && good;
		free(entry[i]);
	}
	free(entry);
	if (n <= 0)
		printf("# no inputs in %s\n", path);
	printf("%s 1 - %s: %d files of kept inputs\n", good && n > 0 ? "ok" : "not ok", name, n > 0 ? n : 0);
	return good && n > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
