/* A plain C face of TensorRT.
 *
 * TensorRT is a C++ library of virtual tables that differ between its major versions and grow with its minor ones.
 * `shim.cpp` is compiled once for each version whose headers are at hand and gives one table of functions,
 * `CatseyeTrtApi`; the libraries themselves are opened at run time, so a program starts without them. No C++ exception
 * leaves the shim. Every handle is destroyed by its own function (a library never), after everything that was made from
 * it. What went wrong is said in words by the log callback.
 */
#ifndef CATSEYE_TENSORRT_SHIM_H
#define CATSEYE_TENSORRT_SHIM_H

/* bindgen shall not need standard headers. */
#ifdef CATSEYE_BINDGEN
typedef int int32_t;
typedef unsigned int uint32_t;
typedef long long int64_t;
typedef unsigned long long uint64_t;
typedef unsigned long size_t;
#else
#include <stddef.h>
#include <stdint.h>
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define CATSEYE_TRT_MAX_DIMS 8

/* Opaque handles. A blob is memory that TensorRT or the shim owns. */
typedef struct CatseyeTrtLibrary CatseyeTrtLibrary;
typedef struct CatseyeTrtBuilder CatseyeTrtBuilder;
typedef struct CatseyeTrtRuntime CatseyeTrtRuntime;
typedef struct CatseyeTrtEngine CatseyeTrtEngine;
typedef struct CatseyeTrtContext CatseyeTrtContext;
typedef struct CatseyeTrtBlob CatseyeTrtBlob;

typedef enum CatseyeTrtStatus {
    CATSEYE_TRT_OK = 0,
    CATSEYE_TRT_NOT_FOUND = 1,   /* the library could not be opened */
    CATSEYE_TRT_NO_SYMBOL = 2,   /* the library lacks a function that every TensorRT has */
    CATSEYE_TRT_OTHER_MAJOR = 3, /* the library is of another major version than the headers */
    CATSEYE_TRT_TOO_OLD = 4,     /* the library is older than the headers */
    CATSEYE_TRT_REFUSED = 5,     /* TensorRT said no; its reason is in the log */
    CATSEYE_TRT_UNSUPPORTED = 6, /* this version of TensorRT has no such thing */
    CATSEYE_TRT_NO_PARSER = 7,   /* the ONNX parser was not opened */
    CATSEYE_TRT_BAD_MODEL = 8,   /* the ONNX parser refused the model */
    CATSEYE_TRT_NO_TENSOR = 9,   /* no tensor has this name or index */
    CATSEYE_TRT_DYNAMIC = 10,    /* a tensor's shape is known only at run time */
    CATSEYE_TRT_EXCEPTION = 11   /* a C++ exception; its words are in the log */
} CatseyeTrtStatus;

/* Severities of a log message, as TensorRT counts them. */
typedef enum CatseyeTrtSeverity {
    CATSEYE_TRT_INTERNAL_ERROR = 0,
    CATSEYE_TRT_ERROR = 1,
    CATSEYE_TRT_WARNING = 2,
    CATSEYE_TRT_INFO = 3,
    CATSEYE_TRT_VERBOSE = 4
} CatseyeTrtSeverity;

/* Called from any of TensorRT's threads, at times from two at once. `message` lives for the call. */
typedef void (*CatseyeTrtLogFn)(void *user, int32_t severity, const char *message);

/* A step of the build (TensorRT 10 on). `phase` ends where step == steps. Returns 0 to stop the build. */
typedef int32_t (*CatseyeTrtProgressFn)(void *user, const char *phase, const char *parent, int32_t step, int32_t steps);

/* Writes the device addresses of the next calibration batch, one for each name. Returns 0 when there is none left. */
typedef int32_t (*CatseyeTrtBatchFn)(void *user, const char *const *names, void **addresses, int32_t count);

/* Receives the calibration table that the build has made. */
typedef void (*CatseyeTrtTableFn)(void *user, const void *table, size_t bytes);

typedef enum CatseyeTrtMode { CATSEYE_TRT_INPUT = 1, CATSEYE_TRT_OUTPUT = 2 } CatseyeTrtMode;

/* Element types, as TensorRT numbers them from version 8 to 11. */
typedef enum CatseyeTrtType {
    CATSEYE_TRT_F32 = 0,
    CATSEYE_TRT_F16 = 1,
    CATSEYE_TRT_I8 = 2,
    CATSEYE_TRT_I32 = 3,
    CATSEYE_TRT_BOOL = 4,
    CATSEYE_TRT_U8 = 5,
    CATSEYE_TRT_F8 = 6,
    CATSEYE_TRT_BF16 = 7,
    CATSEYE_TRT_I64 = 8
} CatseyeTrtType;

/* An input or output. `name` lives as long as what it was asked of. Dimensions that are not fixed are -1. */
typedef struct CatseyeTrtTensor {
    const char *name;
    int32_t mode;
    int32_t type;
    int32_t rank;
    int32_t reserved;
    int64_t dims[CATSEYE_TRT_MAX_DIMS];
    uint64_t bytes; /* 0 where the shape is not fixed or the type has no whole bytes */
} CatseyeTrtTensor;

typedef enum CatseyeTrtFlag {
    CATSEYE_TRT_FLAG_FP16 = 1,
    CATSEYE_TRT_FLAG_INT8 = 2,
    CATSEYE_TRT_FLAG_TF32 = 4, /* off otherwise: TensorRT's own default is on */
    CATSEYE_TRT_FLAG_GPU_FALLBACK = 8
} CatseyeTrtFlag;

/* How the range of a tensor follows from what was seen of it. */
typedef enum CatseyeTrtRanges {
    CATSEYE_TRT_RANGES_MIN_MAX = 0, /* all of it */
    CATSEYE_TRT_RANGES_ENTROPY = 1  /* what keeps most of its information: rare large values are cut off. DLAs take no other */
} CatseyeTrtRanges;

typedef struct CatseyeTrtBuildOptions {
    uint32_t flags;             /* of CatseyeTrtFlag */
    int32_t level;              /* builder optimisation level 0..5 (from 8.6 on), or -1 for TensorRT's own */
    int32_t dla_core;           /* or -1 for the GPU */
    int32_t ranges;             /* of CatseyeTrtRanges */
    uint64_t workspace_bytes;   /* 0 for TensorRT's own limit */
    const void *timing_cache;   /* or null: a cache is begun */
    size_t timing_cache_bytes;
    CatseyeTrtProgressFn progress; /* or null */
    CatseyeTrtBatchFn batch;       /* or null; calibration ends with TensorRT 10 */
    CatseyeTrtTableFn table;       /* or null */
    const void *calibration_table; /* or null: a table made earlier, in place of batches */
    size_t calibration_table_bytes;
    void *user;                 /* first argument of the four callbacks above */
} CatseyeTrtBuildOptions;

typedef struct CatseyeTrtApi {
    /* Version of the headers that this table was compiled with. */
    int32_t major;
    int32_t minor;
    int32_t patch;
    int32_t reserved;

    /* The version of the library at a path or of a name, of whatever version: which table is to open it. It stays in memory. */
    CatseyeTrtStatus (*library_probe)(const char *nvinfer, CatseyeTrtLogFn log, void *user, int32_t *major,
                                      int32_t *minor, int32_t *patch);

    /* Opens the libraries by path or by name; `parser` and `plugin` may be null. A library is never closed, since TensorRT
       keeps pointers to its log: `user` lives as long as the process. */
    CatseyeTrtStatus (*library_open)(const char *nvinfer, const char *parser, const char *plugin, CatseyeTrtLogFn log,
                                     void *user, CatseyeTrtLibrary **library);
    void (*library_version)(const CatseyeTrtLibrary *library, int32_t *major, int32_t *minor, int32_t *patch);

    CatseyeTrtStatus (*builder_create)(CatseyeTrtLibrary *library, CatseyeTrtBuilder **builder);
    CatseyeTrtStatus (*builder_parse)(CatseyeTrtBuilder *builder, const void *onnx, size_t bytes, const char *path);
    int32_t (*builder_tensor_count)(const CatseyeTrtBuilder *builder, int32_t mode);
    CatseyeTrtStatus (*builder_tensor)(const CatseyeTrtBuilder *builder, int32_t mode, int32_t index,
                                       CatseyeTrtTensor *tensor);
    CatseyeTrtStatus (*builder_fix_shape)(CatseyeTrtBuilder *builder, const char *input, const int64_t *dims,
                                          int32_t rank);
    /* Sets the first dimension of every input, and of the reshapes and slices that were exported for a batch of one.
       Refused where an output does not then begin with the batch. */
    CatseyeTrtStatus (*builder_set_batch)(CatseyeTrtBuilder *builder, int32_t batch);
    CatseyeTrtStatus (*builder_build)(CatseyeTrtBuilder *builder, const CatseyeTrtBuildOptions *options,
                                      CatseyeTrtBlob **plan, CatseyeTrtBlob **timing_cache);
    int32_t (*builder_dla_cores)(const CatseyeTrtBuilder *builder);
    void (*builder_destroy)(CatseyeTrtBuilder *builder);

    const void *(*blob_data)(const CatseyeTrtBlob *blob);
    size_t (*blob_bytes)(const CatseyeTrtBlob *blob);
    void (*blob_destroy)(CatseyeTrtBlob *blob);

    CatseyeTrtStatus (*runtime_create)(CatseyeTrtLibrary *library, int32_t dla_core, CatseyeTrtRuntime **runtime);
    void (*runtime_destroy)(CatseyeTrtRuntime *runtime);

    CatseyeTrtStatus (*engine_create)(CatseyeTrtRuntime *runtime, const void *plan, size_t bytes,
                                      CatseyeTrtEngine **engine);
    int32_t (*engine_tensor_count)(const CatseyeTrtEngine *engine);
    CatseyeTrtStatus (*engine_tensor)(const CatseyeTrtEngine *engine, int32_t index, CatseyeTrtTensor *tensor);
    /* Bytes of scratch that every context of this engine needs. */
    uint64_t (*engine_workspace)(const CatseyeTrtEngine *engine);
    /* Layers with their tactics and formats, as TensorRT's engine inspector writes them in JSON. */
    CatseyeTrtStatus (*engine_layers)(const CatseyeTrtEngine *engine, CatseyeTrtBlob **json);
    void (*engine_destroy)(CatseyeTrtEngine *engine);

    /* A context owns no device memory: the caller gives `workspace` (of engine_workspace bytes, 256-byte aligned). */
    CatseyeTrtStatus (*context_create)(CatseyeTrtEngine *engine, uint64_t workspace, uint64_t bytes,
                                       CatseyeTrtContext **context);
    CatseyeTrtStatus (*context_set_address)(CatseyeTrtContext *context, const char *tensor, uint64_t address);
    CatseyeTrtStatus (*context_enqueue)(CatseyeTrtContext *context, void *stream);
    void (*context_destroy)(CatseyeTrtContext *context);
} CatseyeTrtApi;

/* The function that gives a table is called catseye_trtMAJOR_MINOR_api, by the version of its headers: catseye_trt8_6_api. It
   takes nothing and gives a constant. */

#ifdef __cplusplus
}
#endif

#endif
