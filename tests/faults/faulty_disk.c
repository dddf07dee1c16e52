/* A disk that fails on demand, for one process: LD_PRELOAD this library, and the system calls on files below a
 * directory go wrong as a control file says. preload.py compiles it and writes the control file; tests only.
 *
 *   FAULTY_DISK_ROOT     the directory; files elsewhere are never touched
 *   FAULTY_DISK_CONTROL  the control file, mapped shared: what is written there takes effect with the next call
 *
 * A rule has operations, a piece of the path, how many calls it lets pass (skip), how many it hits (times, -1: all),
 * and what it does to those: wait, then fail with an errno, or write half and fail with the next call, or end the
 * process by SIGKILL before, in the middle of or after the call.
 *
 * Beside that it records to which length each file was synced (by inode), so that a power cut can be played after the
 * process was killed: every byte beyond is one that the disk never promised. The model is that of ext4 and XFS: the
 * fsync of a file makes its name durable with it, and bytes reach the disk from the front.
 *
 * Not seen: what stdio writes inside of libc (LevelDB's informational LOG), and stores to mapped files (LevelDB has
 * none). A sector that cannot be read under a mapped file is SIGBUS, and so it is here: the mapping is of an empty file. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* --- the control file; preload.py has the same layout */

enum { OP_WRITE = 1, OP_SYNC = 2, OP_RENAME = 4, OP_OPEN = 8, OP_READ = 16, OP_UNLINK = 32 };
enum { ACT_FAIL = 1, ACT_PARTIAL = 2, ACT_KILL_BEFORE = 3, ACT_KILL_AFTER = 4, ACT_KILL_PARTIAL = 5 };
enum { RULES = 8, FILES = 8192, MATCH_BYTES = 64 };

struct rule {
    _Atomic uint32_t active;
    uint32_t operations;
    uint32_t action; /* 0: nothing but the delay */
    int32_t error;
    uint32_t delay_us;
    uint32_t reserved;
    int64_t skip;
    int64_t times;
    _Atomic int64_t seen;
    _Atomic int64_t hits;
    char match[MATCH_BYTES];
};

struct synced {
    _Atomic uint64_t inode; /* 0: free */
    _Atomic uint64_t length;
};

struct control {
    char magic[8];
    _Atomic uint64_t calls;
    struct rule rules[RULES];
    struct synced files[FILES];
};

static struct control *control;
static char root[PATH_MAX];
static size_t root_bytes;

__attribute__((constructor)) static void start(void) {
    const char *directory = getenv("FAULTY_DISK_ROOT"), *path = getenv("FAULTY_DISK_CONTROL");
    if (directory == NULL || path == NULL || strlen(directory) >= sizeof root) return;
    int descriptor = (int)openat(AT_FDCWD, path, O_RDWR | O_CLOEXEC);
    struct stat state;
    if (descriptor < 0 || fstat(descriptor, &state) != 0 || (size_t)state.st_size < sizeof *control) {
        fprintf(stderr, "faulty disk: cannot use the control file %s\n", path);
        _exit(70);
    }
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    if (mapped == MAP_FAILED || memcmp(((struct control *)mapped)->magic, "FAULTY01", 8) != 0) {
        fprintf(stderr, "faulty disk: %s is no control file\n", path);
        _exit(70);
    }
    close(descriptor);
    strcpy(root, directory);
    root_bytes = strlen(root);
    control = mapped; /* last: it switches everything on */
}

/* The next definition of a function, found once. */
#define REAL(name)                                                        \
    static __typeof__(&name) real;                                        \
    if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* --- which file, which rule */

static const char *below(const char *path) {
    if (control == NULL || path == NULL || strncmp(path, root, root_bytes) != 0) return NULL;
    if (path[root_bytes] == 0) return ""; /* the directory itself */
    return path[root_bytes] == '/' ? path + root_bytes + 1 : NULL;
}

static const char *path_of(int descriptor, char *buffer, size_t size) {
    char link[40];
    if (control == NULL || descriptor < 3) return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t got = readlink(link, buffer, size - 1);
    if (got <= 0) return NULL;
    buffer[got] = 0;
    return below(buffer);
}

static int watched(uint32_t operation) {
    if (control == NULL) return 0;
    for (int i = 0; i < RULES; i++)
        if (atomic_load(&control->rules[i].active) && (control->rules[i].operations & operation)) return 1;
    return 0;
}

/* What happens to this call: the rule that hits it (after its delay), or NULL. */
static struct rule *hit(uint32_t operation, const char *path) {
    if (path == NULL) return NULL;
    atomic_fetch_add(&control->calls, 1);
    for (int i = 0; i < RULES; i++) {
        struct rule *rule = &control->rules[i];
        if (!atomic_load(&rule->active) || !(rule->operations & operation) || strstr(path, rule->match) == NULL) continue;
        int64_t seen = atomic_fetch_add(&rule->seen, 1);
        if (seen < rule->skip || (rule->times >= 0 && seen >= rule->skip + rule->times)) continue;
        atomic_fetch_add(&rule->hits, 1);
        if (rule->delay_us) {
            struct timespec wait = {rule->delay_us / 1000000, (rule->delay_us % 1000000) * 1000L};
            while (nanosleep(&wait, &wait) != 0 && errno == EINTR) continue;
        }
        if (rule->action == 0) continue;
        if (rule->action == ACT_KILL_BEFORE) kill(getpid(), SIGKILL);
        return rule;
    }
    return NULL;
}

static int fails(const struct rule *rule) {
    if (rule == NULL || (rule->action != ACT_FAIL && rule->action != ACT_PARTIAL)) return 0;
    errno = rule->error;
    return 1;
}

static void end_after(const struct rule *rule) {
    if (rule != NULL && (rule->action == ACT_KILL_AFTER || rule->action == ACT_KILL_PARTIAL)) kill(getpid(), SIGKILL);
}

/* --- how far each file is synced */

static struct synced *record(uint64_t inode, int make) {
    for (uint64_t i = 0; i < FILES; i++) {
        struct synced *file = &control->files[(inode + i) % FILES];
        uint64_t found = atomic_load(&file->inode);
        if (found == inode) return file;
        if (found == 0) {
            if (!make) return NULL;
            if (atomic_compare_exchange_strong(&file->inode, &found, inode) || found == inode) return file;
        }
    }
    fprintf(stderr, "faulty disk: more than %d files\n", FILES);
    _exit(70);
}

static void set_synced(uint64_t inode, uint64_t length) { atomic_store(&record(inode, 1)->length, length); }

static void shorten(uint64_t inode, uint64_t length) {
    struct synced *file = record(inode, 0);
    if (file != NULL && atomic_load(&file->length) > length) atomic_store(&file->length, length);
}

static void opened(int descriptor, int flags, int existed) {
    struct stat state;
    if (fstat(descriptor, &state) != 0 || !S_ISREG(state.st_mode)) return;
    if (!existed) set_synced(state.st_ino, 0); /* the inode may have been another file's */
    else if (flags & O_TRUNC) shorten(state.st_ino, 0);
}

/* --- the calls */

/* How much of a write to pass on under this rule. The rest of a partial one fails with the next call, as at a real
 * disk's end. */
static size_t share(struct rule *rule, size_t size) {
    if (rule == NULL) return size;
    if (rule->action == ACT_KILL_PARTIAL) return size > 1 ? size / 2 : 1;
    if (rule->action == ACT_PARTIAL && size > 1) {
        rule->action = ACT_FAIL;
        return size / 2;
    }
    return fails(rule) ? 0 : size;
}

ssize_t write(int descriptor, const void *data, size_t size) {
    REAL(write);
    if (size == 0 || !watched(OP_WRITE)) return real(descriptor, data, size);
    char buffer[PATH_MAX];
    struct rule *rule = hit(OP_WRITE, path_of(descriptor, buffer, sizeof buffer));
    size_t part = share(rule, size);
    if (part == 0) return -1;
    ssize_t result = real(descriptor, data, part);
    end_after(rule);
    return result;
}

ssize_t pwrite64(int descriptor, const void *data, size_t size, off64_t at) {
    REAL(pwrite64);
    if (size == 0 || !watched(OP_WRITE)) return real(descriptor, data, size, at);
    char buffer[PATH_MAX];
    struct rule *rule = hit(OP_WRITE, path_of(descriptor, buffer, sizeof buffer));
    size_t part = share(rule, size);
    if (part == 0) return -1;
    ssize_t result = real(descriptor, data, part, at);
    end_after(rule);
    return result;
}

ssize_t pwrite(int descriptor, const void *data, size_t size, off_t at) { return pwrite64(descriptor, data, size, at); }

ssize_t writev(int descriptor, const struct iovec *parts, int count) {
    REAL(writev);
    if (!watched(OP_WRITE)) return real(descriptor, parts, count);
    char buffer[PATH_MAX];
    struct rule *rule = hit(OP_WRITE, path_of(descriptor, buffer, sizeof buffer));
    if (fails(rule)) return -1;
    ssize_t result = real(descriptor, parts, count);
    end_after(rule);
    return result;
}

/* fsync and fdatasync: what was written before the call began is durable when it has succeeded. */
static int synced(int descriptor, int (*real)(int)) {
    char buffer[PATH_MAX];
    const char *path = path_of(descriptor, buffer, sizeof buffer);
    if (path == NULL) return real(descriptor);
    struct rule *rule = hit(OP_SYNC, path);
    if (fails(rule)) return -1;
    struct stat state;
    int known = fstat(descriptor, &state) == 0 && S_ISREG(state.st_mode);
    int result = real(descriptor);
    if (result == 0 && known) set_synced(state.st_ino, (uint64_t)state.st_size);
    end_after(rule);
    return result;
}

int fsync(int descriptor) {
    REAL(fsync);
    return control == NULL ? real(descriptor) : synced(descriptor, real);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    return control == NULL ? real(descriptor) : synced(descriptor, real);
}

int sync_file_range(int descriptor, off64_t from, off64_t length, unsigned flags) {
    REAL(sync_file_range);
    char buffer[PATH_MAX];
    if (watched(OP_SYNC) && fails(hit(OP_SYNC, path_of(descriptor, buffer, sizeof buffer)))) return -1;
    return real(descriptor, from, length, flags); /* promises nothing, so nothing is recorded */
}

int rename(const char *from, const char *to) {
    REAL(rename);
    struct rule *rule = hit(OP_RENAME, below(to));
    if (fails(rule)) return -1;
    int result = real(from, to);
    end_after(rule);
    return result;
}

int renameat(int from_at, const char *from, int to_at, const char *to) {
    REAL(renameat);
    struct rule *rule = hit(OP_RENAME, below(to));
    if (fails(rule)) return -1;
    int result = real(from_at, from, to_at, to);
    end_after(rule);
    return result;
}

int unlink(const char *path) {
    REAL(unlink);
    struct rule *rule = hit(OP_UNLINK, below(path));
    if (fails(rule)) return -1;
    int result = real(path);
    end_after(rule);
    return result;
}

int ftruncate64(int descriptor, off64_t length) {
    REAL(ftruncate64);
    struct stat state;
    if (control != NULL && fstat(descriptor, &state) == 0) shorten(state.st_ino, (uint64_t)length);
    return real(descriptor, length);
}

int ftruncate(int descriptor, off_t length) { return ftruncate64(descriptor, length); }

static int open_file(int at, const char *path, int flags, mode_t mode) {
    REAL(openat64);
    const char *ours = below(path); /* LevelDB and Python's pathlib name files of the root by their whole path */
    if (ours == NULL) return real(at, path, flags, mode);
    uint32_t operation = (flags & O_ACCMODE) == O_RDONLY ? OP_READ : OP_OPEN;
    struct rule *rule = hit(operation, ours);
    if (fails(rule)) return -1;
    struct stat state;
    int existed = stat(path, &state) == 0;
    int result = real(at, path, flags, mode);
    if (result >= 0 && (flags & O_ACCMODE) != O_RDONLY) opened(result, flags, existed);
    end_after(rule);
    return result;
}

#define MODE_ARGUMENT()                              \
    mode_t mode = 0;                                 \
    if (flags & (O_CREAT | __O_TMPFILE)) {           \
        va_list arguments;                           \
        va_start(arguments, flags);                  \
        mode = (mode_t)va_arg(arguments, int);       \
        va_end(arguments);                           \
    }

int open(const char *path, int flags, ...) {
    MODE_ARGUMENT();
    return open_file(AT_FDCWD, path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_ARGUMENT();
    return open_file(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...) {
    MODE_ARGUMENT();
    return open_file(at, path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...) {
    MODE_ARGUMENT();
    return open_file(at, path, flags, mode);
}

ssize_t read(int descriptor, void *data, size_t size) {
    REAL(read);
    char buffer[PATH_MAX];
    if (watched(OP_READ) && fails(hit(OP_READ, path_of(descriptor, buffer, sizeof buffer)))) return -1;
    return real(descriptor, data, size);
}

ssize_t pread64(int descriptor, void *data, size_t size, off64_t at) {
    REAL(pread64);
    char buffer[PATH_MAX];
    if (watched(OP_READ) && fails(hit(OP_READ, path_of(descriptor, buffer, sizeof buffer)))) return -1;
    return real(descriptor, data, size, at);
}

ssize_t pread(int descriptor, void *data, size_t size, off_t at) { return pread64(descriptor, data, size, at); }

void *mmap64(void *address, size_t size, int protection, int flags, int descriptor, off64_t at) {
    REAL(mmap64);
    char buffer[PATH_MAX];
    if (descriptor < 0 || !watched(OP_READ)) return real(address, size, protection, flags, descriptor, at);
    if (!fails(hit(OP_READ, path_of(descriptor, buffer, sizeof buffer))))
        return real(address, size, protection, flags, descriptor, at);
    int empty = memfd_create("bad sectors", MFD_CLOEXEC);
    void *mapped = real(address, size, protection, flags, empty, 0);
    close(empty);
    return mapped;
}

void *mmap(void *address, size_t size, int protection, int flags, int descriptor, off_t at) {
    return mmap64(address, size, protection, flags, descriptor, at);
}
