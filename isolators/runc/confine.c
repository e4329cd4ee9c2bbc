//go:build cgo

// The last step of a container's start: see confine.go, which tells what it is given.

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { filter_fd = 3, told_fd = 4 };
enum { step_filter = 1, step_run = 2 };

static void give_up(int step)
{
	int32_t words[2] = { step, errno };

	/* If nobody listens, the exit status has to say it. */
	(void)!write(told_fd, words, sizeof(words));
	_exit(127);
}

static void load_filter(void)
{
	struct stat st;
	struct sock_fprog program;

	if (fstat(filter_fd, &st) < 0)
		give_up(step_filter);
	program.len = st.st_size / sizeof(struct sock_filter);
	program.filter = mmap(NULL, st.st_size, PROT_READ, MAP_PRIVATE, filter_fd, 0);
	if (program.filter == MAP_FAILED || close(filter_fd) < 0)
		give_up(step_filter);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0)
		give_up(step_filter);
}

/*
 * Takes the dot off every variable of the task, and leaves out those that the runtime added:
 * but for HOME, where the task has none. Returns the task's PATH.
 */
static const char *undot(char **env)
{
	const char *path = "";
	char *home = NULL;
	char **to = env;
	int homeless = 1;

	for (char **from = env; *from; from++) {
		char *variable = *from + 1;

		if (**from != '.') {
			if (!strncmp(*from, "HOME=", 5))
				home = *from;
			continue;
		}
		if (!strcmp(variable, "HOME="))
			continue;
		if (!strncmp(variable, "PATH=", 5))
			path = variable + 5;
		if (!strncmp(variable, "HOME=", 5))
			homeless = 0;
		*to++ = variable;
	}
	/* There is room: it was left out. */
	if (homeless && home)
		*to++ = home;
	*to = NULL;
	return path;
}

static void run(const char *path, char **argv, char **env)
{
	char file[PATH_MAX];
	size_t name = strlen(argv[0]) + 1;
	int found = ENOENT;

	if (strchr(argv[0], '/')) {
		execve(argv[0], argv, env);
		return;
	}
	for (const char *end; *path; path = *end ? end + 1 : end) {
		end = strchrnul(path, ':');
		size_t dir = end - path;
		/* A directory that is not absolute depends on where one is, and is never meant. */
		if (*path != '/' || dir + 1 + name > sizeof(file))
			continue;
		memcpy(file, path, dir);
		file[dir] = '/';
		memcpy(file + dir + 1, argv[0], name);
		execve(file, argv, env);
		if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
			return;
		if (errno == EACCES)
			found = EACCES;
	}
	errno = found;
}

/* Before the constructor of libcontainer, which looks at the environment, and before Go. */
__attribute__((constructor(101))) static void confine(int argc, char **argv, char **env)
{
	const char *path;

	if (argc < 3 || strcmp(argv[0], "/proc/self/exe") || strcmp(argv[1], "gantry-confine"))
		return;
	if (fcntl(told_fd, F_SETFD, FD_CLOEXEC) < 0)
		_exit(127);
	path = undot(env);
	load_filter();
	run(path, argv + 2, env);
	give_up(step_run);
}
