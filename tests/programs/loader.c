/* SPDX-License-Identifier: PostgreSQL */
/* A program that has no libpq, but extensions (module.c) that do, each given as a file: two of them may have two libpqs. */
#include <dlfcn.h>
#include <stdio.h>

int
main(int argc, char **argv)
{
	for (int round = 0; round < 3; round++) {
		for (int i = 1; i < argc; i++) {
			void *handle = dlopen(argv[i], RTLD_NOW | RTLD_LOCAL | (i % 2 == 0 ? RTLD_DEEPBIND : 0));
			int (*run)(char *, size_t);
			char answer[512];

			if (handle == NULL || (*(void **)&run = dlsym(handle, "module_run")) == NULL) {
				fprintf(stderr, "%s\n", dlerror());
				return 1;
			}
			if (run(answer, sizeof(answer)) != 0) {
				fprintf(stderr, "%s: %s\n", argv[i], answer);
				return 1;
			}
			printf("%s\n", answer);
		}
	}
	return 0;
}
