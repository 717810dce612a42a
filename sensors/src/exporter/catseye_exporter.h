/*
 * The frame exporter: how a shared library gives catseye the pictures of a camera without a copy.
 *
 * A library is made for a camera that only a vendor's SDK can open (Argus on Jetson, SIPL on DRIVE) and is built against that
 * SDK on its user's machine. catseye opens it at run time, asks `catseye_exporter_api` for a table of functions, and lends
 * itself buffers from it: the camera's own, which the host can read and which go back when nobody reads them any more.
 *
 * Versions. `abi_version` is CATSEYE_EXPORTER_ABI and the two sizes are those of the structs that the library was compiled
 * with. catseye reads the first three numbers of the table before all else, and refuses a library whose numbers are not its
 * own. A new pixel format, clock or flag is a new number and no new version: whoever does not know it refuses the picture by
 * name.
 *
 * Threads. No two calls for one exporter overlap, but each may come from another thread. Calls for different exporters may
 * overlap. Nothing may be thrown out of a function.
 *
 * Time of life: open, then next_frame and release as often as one likes, then stop, release for what is still lent, close.
 */
#ifndef CATSEYE_EXPORTER_H
#define CATSEYE_EXPORTER_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CATSEYE_EXPORTER_ABI 2

/* How many buffers an exporter may have, and planes a picture. */
#define CATSEYE_MAX_BUFFERS 64
#define CATSEYE_MAX_PLANES 3

/* A status. Negative numbers are not used. */
#define CATSEYE_OK 0
#define CATSEYE_NO_FRAME 1 /* none came in time: no error */
#define CATSEYE_GONE 2     /* the camera is gone and may come back: stop, close, and open again */
#define CATSEYE_FAILED 3   /* anything else: last_error says what. The exporter is stopped and closed */

/* A pixel format is its V4L2 code, as in linux/videodev2.h. Known are
 *   NV12                        2 planes: luma, interleaved chroma
 *   YU12 (I420)                 3 planes
 *   YUYV UYVY RGB3 BGR3 GREY    1 plane
 *   RGGB GRBG GBRG BA81         1 plane, raw, 8 bits
 *   RG10 BA10 GB10 BG10, RG12 BA12 GB12 BG12      1 plane, raw, 10 and 12 bits: the low ones of two little-endian bytes
 *   pRAA pgAA pGAA pBAA, pRCC pgCC pGCC pBCC      1 plane, raw, 10 and 12 bits, packed */
#define CATSEYE_FOURCC(a, b, c, d) ((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | (uint32_t)(d) << 24)

/* What lies behind a picture's planes, beside the addresses at which the host reads them. */
#define CATSEYE_MEMORY_HOST 0     /* nothing: `handle` is 0 */
#define CATSEYE_MEMORY_DMA_BUF 1  /* `handle` is the file descriptor of a DMA-BUF, which stays open while the picture is lent */
#define CATSEYE_MEMORY_NVSCIBUF 2 /* `handle` is an NvSciBufObj as a number, valid while the picture is lent */
#define CATSEYE_MEMORY_OPAQUE_FD 3 /* `handle` is the file descriptor that Vulkan or CUDA exported, open while the picture is lent */

/* The clock of a stamp. 0 to 6 are those of catseye's logs. */
#define CATSEYE_CLOCK_UNKNOWN 0
#define CATSEYE_CLOCK_HOST_MONOTONIC 1 /* CLOCK_MONOTONIC of this host: what to give where it can be had */
#define CATSEYE_CLOCK_HOST_REALTIME 2
#define CATSEYE_CLOCK_PTP 3
#define CATSEYE_CLOCK_SENSOR 5 /* the camera's own, free-running */
#define CATSEYE_CLOCK_TSC 16   /* Tegra's time stamp counter, in nanoseconds */

/* The instant that a stamp names. */
#define CATSEYE_STAMP_EXPOSURE_START 0
#define CATSEYE_STAMP_EXPOSURE_MIDDLE 1
#define CATSEYE_STAMP_EXPOSURE_END 2
#define CATSEYE_STAMP_ARRIVAL 3

/* Flags of a picture. */
#define CATSEYE_FRAME_TORN 1u /* part of it is missing or of another picture */

typedef struct CatseyePlane {
    const uint8_t *data;   /* where the host reads it; caches are in order before the picture is given */
    uint64_t bytes;        /* at least stride_bytes for each row */
    uint64_t offset_bytes; /* where it begins in the memory behind `handle` */
    uint32_t stride_bytes; /* from a row to the next */
    uint32_t reserved;     /* 0 */
} CatseyePlane;

/* One picture, lent with its buffer from next_frame to release. While it is lent the library neither writes nor frees the
 * buffer, whatever else happens: not after stop, not when the camera is gone. A buffer lies at the same place behind the
 * same handle in all of its pictures, or the handle is another one. */
typedef struct CatseyeFrame {
    uint32_t fourcc;
    uint32_t width_px;
    uint32_t height_px;
    uint32_t plane_count; /* what the format says */
    CatseyePlane planes[CATSEYE_MAX_PLANES];
    uint32_t buffer;      /* the token to release it by: 0 up to the exporter's buffer_count, less one; none that is lent */
    uint32_t memory_kind;
    uint64_t handle;
    uint64_t memory_bytes; /* size of all the memory behind `handle`; 0 where a GPU is not to import it */
    uint64_t sequence;    /* grows by one with each picture that the camera took, whether or not it was given: a gap is a loss */
    int64_t stamp_ns;
    uint32_t clock;
    uint32_t stamp_kind;
    uint32_t flags;
    uint32_t reserved;    /* 0 */
} CatseyeFrame;

typedef struct CatseyeExporter CatseyeExporter;

typedef struct CatseyeExporterApi {
    uint32_t abi_version; /* CATSEYE_EXPORTER_ABI */
    uint32_t api_bytes;   /* sizeof(CatseyeExporterApi) */
    uint32_t frame_bytes; /* sizeof(CatseyeFrame) */
    uint32_t reserved;    /* 0 */
    const char *name;     /* what it is, with its own version, UTF-8; a constant */

    /* Opens a camera and starts it. `config` is UTF-8, `key=value` with a semicolon between two. catseye always gives
     * `width_px`, `height_px`, `rate_hz`, `fourcc` (the format, as text), `full_range` (1 where luma is to span 0 to 255, 0
     * for 16 to 235) and `buffers` (how many it would like; there may be more or fewer), before them `camera` (a number or a
     * name) for a source `argus:` or `sipl:`, behind them `gpu_uuid` (32 hexadecimal digits) where a GPU will read the
     * pictures, and last what the rig says for a library of its own. A camera that cannot give this size, format and range
     * is not opened. A key that the library does not know is an error. With CATSEYE_OK it gives the exporter and how many
     * buffers it has, 1 to CATSEYE_MAX_BUFFERS; else neither. */
    int32_t (*open)(const char *config, uint32_t *buffer_count, CatseyeExporter **exporter);

    /* The next picture, in the camera's order. Waits for at most `timeout_ns`. Where every buffer is lent or waits to be
     * filled, the camera's new pictures are lost: one that is lent is never written. `frame` is zeroed before. */
    int32_t (*next_frame)(CatseyeExporter *exporter, uint64_t timeout_ns, CatseyeFrame *frame);

    /* Takes a lent buffer back. */
    void (*release)(CatseyeExporter *exporter, uint32_t buffer);

    /* Stops the camera and lets go of the device, so that it can be opened again. Memory that is lent stays as it is. */
    void (*stop)(CatseyeExporter *exporter);

    /* Frees everything. Nothing is lent any more, and stop was called. */
    void (*close)(CatseyeExporter *exporter);

    /* Writes why the last call for this exporter failed, or for NULL why the last open on this thread did: UTF-8, cut to
     * `text_bytes` with its closing NUL. */
    void (*last_error)(const CatseyeExporter *exporter, char *text, size_t text_bytes);
} CatseyeExporterApi;

/* The one symbol of a library: its table, a constant that stays until the process ends. */
const CatseyeExporterApi *catseye_exporter_api(void);

#ifdef __cplusplus
}
#endif

#endif
