// The two halves of WindowAttention on CUDA: rows that are a span of their own, and spans of several rows.
#ifndef YOIO_KERNELS_CUDA_ATTENTION_WINDOW_H_
#define YOIO_KERNELS_CUDA_ATTENTION_WINDOW_H_

#include "kernels/cuda/cuda_stream.h"
#include "kernels/ops.h"

namespace yoio::kernels::cuda {

// Attention of rows [first_row, first_row + num_rows) of `args`, of spans of at most `most_span_rows` rows
// each (and at most kMostGeneratedTokens), whose sequences and positions args.rows tells; then their K and V
// go to the ring. A row's bits do not depend on whether those before it are in the same call. Does not read
// args.spans.
void WindowDecode(const WindowAttentionArgs& args, int first_row, int num_rows, int most_span_rows,
                  CudaStream& stream);

}  // namespace yoio::kernels::cuda

#endif  // YOIO_KERNELS_CUDA_ATTENTION_WINDOW_H_
