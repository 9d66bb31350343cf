/* System calls that fail on purpose: preloaded, they return the error that FAULT_<CALL> names, as
   a number, for files whose path contains FAULT_FILE. FAULT_FROM is the first offset that read and
   write refuse. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

static int fails(const char *call, const char *path, off_t offset)
{
    const char *number = getenv(call), *file = getenv("FAULT_FILE"), *from = getenv("FAULT_FROM");
    if (!number || !file || !path || !strstr(path, file) || offset < (from ? atoll(from) : 0))
        return 0;
    errno = atoi(number);
    return 1;
}

static int fails_open(const char *call, int fd, off_t offset)
{
    char link[64], path[4096];
    if (!getenv(call))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n < 0)
        return 0;
    path[n] = 0;
    return fails(call, path, offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int open(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return fails("FAULT_OPEN", path, 0) ? -1 : REAL(open)(path, flags, mode);
}
int open64(const char *path, int flags, ...)
{
    va_list rest;
    va_start(rest, flags);
    int mode = va_arg(rest, int);
    va_end(rest);
    return fails("FAULT_OPEN", path, 0) ? -1 : REAL(open64)(path, flags, mode);
}
int flock(int fd, int operation)
{
    return operation != LOCK_UN && fails_open("FAULT_FLOCK", fd, 0) ? -1 : REAL(flock)(fd, operation);
}
ssize_t read(int fd, void *to, size_t n)
{
    return fails_open("FAULT_READ", fd, -1) ? -1 : REAL(read)(fd, to, n);
}
ssize_t pread(int fd, void *to, size_t n, off_t offset)
{
    return fails_open("FAULT_READ", fd, offset) ? -1 : REAL(pread)(fd, to, n, offset);
}
ssize_t pread64(int fd, void *to, size_t n, off_t offset)
{
    return fails_open("FAULT_READ", fd, offset) ? -1 : REAL(pread64)(fd, to, n, offset);
}
ssize_t write(int fd, const void *from, size_t n)
{
    return fails_open("FAULT_WRITE", fd, -1) ? -1 : REAL(write)(fd, from, n);
}
ssize_t pwrite(int fd, const void *from, size_t n, off_t offset)
{
    return fails_open("FAULT_WRITE", fd, offset) ? -1 : REAL(pwrite)(fd, from, n, offset);
}
ssize_t pwrite64(int fd, const void *from, size_t n, off_t offset)
{
    return fails_open("FAULT_WRITE", fd, offset) ? -1 : REAL(pwrite64)(fd, from, n, offset);
}
int fsync(int fd)
{
    return fails_open("FAULT_FSYNC", fd, 0) ? -1 : REAL(fsync)(fd);
}
int posix_fallocate64(int fd, off_t offset, off_t n)
{
    return fails_open("FAULT_ALLOCATE", fd, 0) ? errno : REAL(posix_fallocate64)(fd, offset, n);
}
int posix_fallocate(int fd, off_t offset, off_t n)
{
    return fails_open("FAULT_ALLOCATE", fd, 0) ? errno : REAL(posix_fallocate)(fd, offset, n);
}
