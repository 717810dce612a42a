/* All that TensorRT's headers take from CUDA's: two opaque handles. So the shim compiles where no CUDA toolkit is. */
#ifndef CATSEYE_CUDA_RUNTIME_API_H
#define CATSEYE_CUDA_RUNTIME_API_H

typedef struct CUstream_st *cudaStream_t;
typedef struct CUevent_st *cudaEvent_t;

#endif
