// Tally counts the lines, words and bytes of files: a task that is a WASM module. Its / is its sandbox, where uris are
// fetched to, and it reaches nothing else. See README.md.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int tally(const char *path) {
	FILE *f = fopen(path, "r");
	if (f == NULL) {
		fprintf(stderr, "tally: %s: %s\n", path, strerror(errno));
		return 1;
	}
	unsigned long lines = 0, words = 0, bytes = 0;
	int inside = 0;
	for (int c; (c = getc(f)) != EOF; bytes++) {
		lines += c == '\n';
		words += !isspace(c) && !inside;
		inside = !isspace(c);
	}
	fclose(f);
	printf("%lu %lu %lu %s\n", lines, words, bytes, path);
	return 0;
}

int main(int argc, char **argv) {
	int status = 0;
	if (argc < 2) {
		fprintf(stderr, "usage: tally FILE...\n");
		return 2;
	}
	for (int i = 1; i < argc; i++)
		status |= tally(argv[i]);
	return status;
}
