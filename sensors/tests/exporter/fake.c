/*
 * An exporter without a camera: pictures of a moving pattern in memory of a memfd, which stands for a DMA-BUF. It keeps the
 * contract of catseye_exporter.h, and holds its caller to it: a buffer that is given back is overwritten at once, and what a
 * caller must not do ends the process. On request it breaks the contract itself.
 *
 * Keys: camera (a number below 8), width_px, height_px, rate_hz (0: as fast as it can), fourcc (NV12, UYVY, BG12);
 *   buffers=N      2 to 64
 *   padding=N      bytes behind each row
 *   apart=N        bytes between two planes
 *   fault=WORD     what is wrong, from picture number `at` on (for abi, symbol and such: from the start)
 *   at=N
 *   away_ms=N      how long a camera that is gone cannot be opened
 */
#define _GNU_SOURCE
#include "catseye_exporter.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CAMERAS = 8, POISON = 0xDD, PADDING = 0xEE };

struct Buffer {
    uint8_t *bytes;
    int fd;
    int is_lent;
};

struct CatseyeExporter {
    int camera, width_px, height_px, padding, apart, at;
    uint32_t buffer_count, fourcc;
    double rate_hz;
    char fault[32];
    long away_ms;
    size_t bytes;
    struct Buffer buffers[CATSEYE_MAX_BUFFERS];
    uint64_t sequence;
    int64_t next_ns;
    int is_stopped, has_erred;
    atomic_int calls;
    char error[128];
};

static __thread char open_error[128];
static atomic_int open_exporters, open_cameras[MAX_CAMERAS];
static _Atomic int64_t away_until_ns[MAX_CAMERAS];

/* For tests: exporters that are not closed yet. */
int fake_open_exporters(void) { return atomic_load(&open_exporters); }

static void caller_is_wrong(const char *words) {
    fprintf(stderr, "fake exporter: the caller is wrong: %s\n", words);
    abort();
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void sleep_ns(int64_t ns) {
    if (ns <= 0) return;
    struct timespec pause = {ns / 1000000000LL, ns % 1000000000LL};
    nanosleep(&pause, NULL);
}

static void enter(CatseyeExporter *e) {
    if (atomic_fetch_add(&e->calls, 1) != 0) caller_is_wrong("two calls overlap");
}

static void leave(CatseyeExporter *e) { atomic_fetch_sub(&e->calls, 1); }

static int has_fault(const CatseyeExporter *e, const char *fault) {
    return strcmp(e->fault, fault) == 0 && e->sequence >= (uint64_t)e->at;
}

/* How a plane lies in a buffer. The memory needed is what lies behind the last. */
struct Layout {
    size_t row_bytes, rows, stride, offset;
};

static int layouts(const CatseyeExporter *e, struct Layout out[CATSEYE_MAX_PLANES]) {
    size_t w = e->width_px, h = e->height_px;
    if (e->fourcc == CATSEYE_FOURCC('U', 'Y', 'V', 'Y')) {
        out[0] = (struct Layout){(w + 1) / 2 * 4, h, (w + 1) / 2 * 4 + e->padding, 0};
        return 1;
    }
    if (e->fourcc == CATSEYE_FOURCC('B', 'G', '1', '2')) {
        out[0] = (struct Layout){w * 2, h, w * 2 + e->padding, 0};
        return 1;
    }
    size_t stride = (w + 1) / 2 * 2 + e->padding;
    out[0] = (struct Layout){w, h, stride, 0};
    out[1] = (struct Layout){(w + 1) / 2 * 2, (h + 1) / 2, stride, stride * h + e->apart};
    return 2;
}

static uint8_t pattern(uint64_t sequence, int plane, size_t row, size_t column) {
    return (uint8_t)(sequence * 7 + plane * 31 + row * 3 + column);
}

static void draw(CatseyeExporter *e, uint8_t *bytes, uint64_t sequence) {
    struct Layout planes[CATSEYE_MAX_PLANES];
    int count = layouts(e, planes);
    for (int plane = 0; plane < count; plane++) {
        for (size_t row = 0; row < planes[plane].rows; row++) {
            uint8_t *to = bytes + planes[plane].offset + row * planes[plane].stride;
            for (size_t column = 0; column < planes[plane].row_bytes; column++) to[column] = pattern(sequence, plane, row, column);
            memset(to + planes[plane].row_bytes, PADDING, planes[plane].stride - planes[plane].row_bytes);
        }
    }
}

static int refuse(CatseyeExporter *e, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(open_error, sizeof open_error, format, arguments);
    va_end(arguments);
    free(e);
    return CATSEYE_FAILED;
}

static int set(CatseyeExporter *e, const char *key, const char *value) {
    if (!strcmp(key, "camera")) e->camera = atoi(value);
    else if (!strcmp(key, "width_px")) e->width_px = atoi(value);
    else if (!strcmp(key, "height_px")) e->height_px = atoi(value);
    else if (!strcmp(key, "rate_hz")) e->rate_hz = atof(value);
    else if (!strcmp(key, "buffers")) e->buffer_count = (uint32_t)atoi(value);
    else if (!strcmp(key, "padding")) e->padding = atoi(value);
    else if (!strcmp(key, "apart")) e->apart = atoi(value);
    else if (!strcmp(key, "full_range")) return !strcmp(value, "0") || !strcmp(value, "1");
    else if (!strcmp(key, "gpu_uuid")) return strlen(value) == 32;
    else if (!strcmp(key, "at")) e->at = atoi(value);
    else if (!strcmp(key, "away_ms")) e->away_ms = atol(value);
    else if (!strcmp(key, "fault")) snprintf(e->fault, sizeof e->fault, "%s", value);
    else if (!strcmp(key, "fourcc") && strlen(value) == 4) e->fourcc = CATSEYE_FOURCC(value[0], value[1], value[2], value[3]);
    else return 0;
    return 1;
}

static void free_buffers(CatseyeExporter *e) {
    for (uint32_t at = 0; at < e->buffer_count; at++) {
        if (e->buffers[at].bytes) munmap(e->buffers[at].bytes, e->bytes);
        if (e->buffers[at].fd > 0) close(e->buffers[at].fd);
    }
}

static int fake_open(const char *config, uint32_t *buffer_count, CatseyeExporter **exporter) {
    CatseyeExporter *e = calloc(1, sizeof *e);
    if (!e) return CATSEYE_FAILED;
    *e = (CatseyeExporter){.width_px = 64, .height_px = 48, .buffer_count = 4, .fourcc = CATSEYE_FOURCC('N', 'V', '1', '2')};
    char text[512];
    snprintf(text, sizeof text, "%s", config);
    char *rest = NULL;
    for (char *pair = strtok_r(text, ";", &rest); pair; pair = strtok_r(NULL, ";", &rest)) {
        char *value = strchr(pair, '=');
        if (value) *value++ = 0;
        if (!value || !set(e, pair, value)) return refuse(e, "key %s: expected one of camera, width_px, ..., found it", pair);
    }
    if (e->camera < 0 || e->camera >= MAX_CAMERAS) return refuse(e, "camera: expected 0 to 7, found %d", e->camera);
    if (e->width_px < 1 || e->width_px > 8192 || e->height_px < 1 || e->height_px > 8192) return refuse(e, "no such size");
    if (e->buffer_count < 2 || e->buffer_count > CATSEYE_MAX_BUFFERS) return refuse(e, "no such number of buffers");
    if (now_ns() < atomic_load(&away_until_ns[e->camera])) return refuse(e, "camera %d is not there", e->camera);
    if (atomic_exchange(&open_cameras[e->camera], 1)) return refuse(e, "camera %d is in use", e->camera);
    struct Layout planes[CATSEYE_MAX_PLANES];
    struct Layout last = planes[layouts(e, planes) - 1];
    e->bytes = last.offset + last.stride * last.rows;
    for (uint32_t at = 0; at < e->buffer_count; at++) {
        struct Buffer *buffer = &e->buffers[at];
        buffer->fd = memfd_create("fake-exporter", MFD_CLOEXEC);
        if (buffer->fd < 0 || ftruncate(buffer->fd, (off_t)e->bytes)) buffer->bytes = MAP_FAILED;
        else buffer->bytes = mmap(NULL, e->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, buffer->fd, 0);
        if (buffer->bytes == MAP_FAILED) {
            buffer->bytes = NULL;
            free_buffers(e);
            atomic_store(&open_cameras[e->camera], 0);
            return refuse(e, "no memory");
        }
        memset(buffer->bytes, POISON, e->bytes);
    }
    e->next_ns = now_ns();
    atomic_fetch_add(&open_exporters, 1);
    *buffer_count = !strcmp(e->fault, "buffers") ? 65 : e->buffer_count;
    if (!strcmp(e->fault, "no_handle")) {
        free_buffers(e);
        atomic_store(&open_cameras[e->camera], 0);
        atomic_fetch_sub(&open_exporters, 1);
        free(e);
        return CATSEYE_OK;
    }
    *exporter = e;
    return CATSEYE_OK;
}

static struct Buffer *free_buffer(CatseyeExporter *e) {
    for (uint32_t step = 0; step < e->buffer_count; step++) {
        struct Buffer *buffer = &e->buffers[(e->sequence + step) % e->buffer_count];
        if (!buffer->is_lent) return buffer;
    }
    return NULL;
}

/* Breaks what the fault says. */
static void spoil(CatseyeExporter *e, CatseyeFrame *frame) {
    if (has_fault(e, "small_plane")) frame->planes[1].bytes /= 2;
    if (has_fault(e, "null_plane")) frame->planes[1].data = NULL;
    if (has_fault(e, "short_stride")) frame->planes[0].stride_bytes = 3;
    if (has_fault(e, "planes")) frame->plane_count = 77;
    if (has_fault(e, "format")) frame->fourcc = CATSEYE_FOURCC('?', '?', '?', '?');
    if (has_fault(e, "size")) frame->width_px = 0;
    if (has_fault(e, "clock")) frame->clock = 99;
    if (has_fault(e, "stamp_kind")) frame->stamp_kind = 99;
    if (has_fault(e, "memory")) frame->memory_kind = 99;
    if (has_fault(e, "handle")) frame->handle = UINT64_MAX;
    if (has_fault(e, "flags")) frame->flags = 1u << 31;
    if (has_fault(e, "token")) frame->buffer = e->buffer_count;
    if (has_fault(e, "torn") && e->sequence % 3 == 0) frame->flags |= CATSEYE_FRAME_TORN;
    if (has_fault(e, "stamps")) frame->stamp_ns = 5;
    if (has_fault(e, "backward") && e->sequence == (uint64_t)e->at) frame->sequence = 0;
    if (has_fault(e, "repeat") && e->sequence == (uint64_t)e->at) frame->sequence -= 1;
}

static int give(CatseyeExporter *e, struct Buffer *buffer, CatseyeFrame *frame) {
    struct Layout planes[CATSEYE_MAX_PLANES];
    *frame = (CatseyeFrame){
        .fourcc = e->fourcc,
        .width_px = (uint32_t)e->width_px,
        .height_px = (uint32_t)e->height_px,
        .plane_count = (uint32_t)layouts(e, planes),
        .buffer = (uint32_t)(buffer - e->buffers),
        .memory_kind = CATSEYE_MEMORY_DMA_BUF,
        .handle = (uint64_t)buffer->fd,
        .memory_bytes = e->bytes,
        .sequence = e->sequence,
        .stamp_ns = e->next_ns,
        .clock = CATSEYE_CLOCK_HOST_MONOTONIC,
        .stamp_kind = CATSEYE_STAMP_EXPOSURE_START,
    };
    for (uint32_t plane = 0; plane < frame->plane_count; plane++) {
        frame->planes[plane] = (CatseyePlane){
            .data = buffer->bytes + planes[plane].offset,
            .bytes = planes[plane].stride * planes[plane].rows,
            .offset_bytes = planes[plane].offset,
            .stride_bytes = (uint32_t)planes[plane].stride,
        };
    }
    draw(e, buffer->bytes, e->sequence);
    buffer->is_lent = 1;
    spoil(e, frame);
    return CATSEYE_OK;
}

static int next(CatseyeExporter *e, uint64_t timeout_ns, CatseyeFrame *frame) {
    if (e->is_stopped) caller_is_wrong("next_frame after stop");
    int64_t end_ns = now_ns() + (int64_t)(timeout_ns > 1000000000000ull ? 1000000000000ull : timeout_ns);
    if (has_fault(e, "stuck")) {
        sleep_ns(end_ns - now_ns());
        return CATSEYE_NO_FRAME;
    }
    if (has_fault(e, "error")) {
        snprintf(e->error, sizeof e->error, "the fake was told to fail at picture %d", e->at);
        return CATSEYE_FAILED;
    }
    if (has_fault(e, "status")) return -42;
    if (has_fault(e, "gone")) {
        snprintf(e->error, sizeof e->error, "camera %d was unplugged", e->camera);
        atomic_store(&away_until_ns[e->camera], now_ns() + e->away_ms * 1000000);
        return CATSEYE_GONE;
    }
    if (e->rate_hz > 0) {
        sleep_ns((e->next_ns < end_ns ? e->next_ns : end_ns) - now_ns());
        if (now_ns() < e->next_ns) return CATSEYE_NO_FRAME;
    } else {
        e->next_ns = now_ns();
    }
    if (has_fault(e, "gap") && e->sequence == (uint64_t)e->at) e->sequence += 3;
    struct Buffer *buffer = free_buffer(e);
    if (has_fault(e, "lent_again") && e->buffers[0].is_lent) buffer = &e->buffers[0];
    int status = CATSEYE_OK;
    if (buffer) status = give(e, buffer, frame);
    else if (e->rate_hz <= 0) {
        sleep_ns(end_ns - now_ns());
        return CATSEYE_NO_FRAME;
    } else status = CATSEYE_NO_FRAME; /* this picture is lost: nothing to put it in */
    e->sequence += 1;
    if (e->rate_hz > 0) e->next_ns += (int64_t)(1e9 / e->rate_hz);
    return status;
}

static int fake_next_frame(CatseyeExporter *e, uint64_t timeout_ns, CatseyeFrame *frame) {
    enter(e);
    int status = next(e, timeout_ns, frame);
    leave(e);
    return status;
}

static void fake_release(CatseyeExporter *e, uint32_t buffer) {
    enter(e);
    if (buffer >= e->buffer_count) caller_is_wrong("release of a buffer that there is not");
    if (!e->buffers[buffer].is_lent) caller_is_wrong("release of a buffer that is not lent");
    memset(e->buffers[buffer].bytes, POISON, e->bytes);
    e->buffers[buffer].is_lent = 0;
    leave(e);
}

static void fake_stop(CatseyeExporter *e) {
    enter(e);
    if (e->is_stopped) caller_is_wrong("stop after stop");
    e->is_stopped = 1;
    atomic_store(&open_cameras[e->camera], 0);
    leave(e);
}

static void fake_close(CatseyeExporter *e) {
    enter(e);
    if (!e->is_stopped) caller_is_wrong("close before stop");
    for (uint32_t at = 0; at < e->buffer_count; at++) {
        /* a buffer without a token could not be given back */
        if (e->buffers[at].is_lent && strcmp(e->fault, "token")) caller_is_wrong("close while a buffer is lent");
    }
    free_buffers(e);
    free(e);
    atomic_fetch_sub(&open_exporters, 1);
}

static void fake_last_error(const CatseyeExporter *e, char *text, size_t text_bytes) {
    if (text_bytes) snprintf(text, text_bytes, "%s", e ? e->error : open_error);
}

/* What a library of another version, or a wrong one, has for a table: the test builds it with a define. */
#ifndef FAKE_ABI
#define FAKE_ABI CATSEYE_EXPORTER_ABI
#endif
#ifndef FAKE_FRAME_BYTES
#define FAKE_FRAME_BYTES sizeof(CatseyeFrame)
#endif
#ifndef FAKE_CLOSE
#define FAKE_CLOSE fake_close
#endif

static const CatseyeExporterApi api = {
    .abi_version = FAKE_ABI,
    .api_bytes = sizeof(CatseyeExporterApi),
    .frame_bytes = FAKE_FRAME_BYTES,
    .name = "fake 1",
    .open = fake_open,
    .next_frame = fake_next_frame,
    .release = fake_release,
    .stop = fake_stop,
    .close = FAKE_CLOSE,
    .last_error = fake_last_error,
};

#ifdef FAKE_NO_TABLE
const CatseyeExporterApi *catseye_exporter_api(void) { return NULL; }
#elif !defined(FAKE_NO_SYMBOL)
const CatseyeExporterApi *catseye_exporter_api(void) { return &api; }
#endif
