// WindowDecode: one query row a sequence over the ring that holds its last tokens, and the row's own token,
// which then goes to the ring.
//
// Floor: rows * window * kv_heads * 512 bytes read from memory (head_dim 128): 11 us for clsa-4b (window 512,
// 4 kv heads) and 45 us for clsa-8b (1024, 8) at batch 32 and 2.99 TB/s. At batch 1 it is 1 and 4 MB: launch
// and merging take longer.
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_general.cuh"
#include "kernels/cuda/attention_window.h"

namespace yoio::kernels::cuda {
namespace {

using decode::TokenAddress;

constexpr int kStages = 4;  // of 34 KB: with fewer, one block a multiprocessor falls short of the bandwidth
constexpr int kPartTokens = 64;

// The window of each row: its last tokens in the ring of its sequence, then the row's own.
struct WindowTokens {
  static constexpr int kOwn = -1;  // the place of the row's own token
  struct Row {
    int count;
    int length;
    int ring_slot;
    const __nv_bfloat16* ring;
    const __nv_bfloat16* k;
    const __nv_bfloat16* v;
  };

  int capacity;  // the window
  const PagedRow* rows;
  const __nv_bfloat16* k;
  const __nv_bfloat16* v;
  int64_t row_stride;
  __nv_bfloat16* ring;
  const int32_t* ring_slots;
  int ring_tokens;
  int kv_heads;
  int head_dim;

  __device__ Row Load(int row) const {
    const PagedRow paged = rows[row];
    return {.count = min(paged.length, capacity),
            .length = paged.length,
            .ring_slot = ring_slots[row],
            .ring = ring + int64_t{max(paged.slot, 0)} * ring_tokens * kv_heads * 2 * head_dim,
            .k = k + row * row_stride,
            .v = v + row * row_stride};
  }
  __device__ int Find(const Row& row, int token) const {
    const int position = row.length - row.count + token;
    return position + 1 == row.length ? kOwn : position % ring_tokens;
  }
  __device__ TokenAddress At(const Row& row, int place, int kv_head) const {
    if (place == kOwn) return {row.k + kv_head * head_dim, row.v + kv_head * head_dim};
    const __nv_bfloat16* key = row.ring + (int64_t{place} * kv_heads + kv_head) * 2 * head_dim;
    return {key, key + head_dim};
  }
  // The row's own token goes to the ring, to a slot that no window of this step reaches.
  __device__ void Finish(const Row& row, int kv_head, int lane) const {
    if (row.ring_slot < 0) return;
    __nv_bfloat16* key = ring + (int64_t{row.ring_slot} * kv_heads + kv_head) * 2 * head_dim;
    for (int d = lane; d < head_dim; d += 32) {
      key[d] = row.k[kv_head * head_dim + d];
      key[head_dim + d] = row.v[kv_head * head_dim + d];
    }
  }
};

}  // namespace

void WindowDecode(const WindowAttentionArgs& args, int first_row, int num_rows, CudaStream& stream) {
  const int64_t skipped = first_row * args.row_stride;
  const WindowTokens source = {.capacity = args.window,
                               .rows = args.rows + first_row,
                               .k = Halves(args.k) + skipped,
                               .v = Halves(args.v) + skipped,
                               .row_stride = args.row_stride,
                               .ring = Halves(args.ring),
                               .ring_slots = args.ring_slots + first_row,
                               .ring_tokens = args.ring_tokens,
                               .kv_heads = args.kv_heads,
                               .head_dim = args.head_dim};
  const decode::Call call = {.q = Halves(args.q) + skipped,
                             .q_stride = args.row_stride,
                             .out = Halves(args.out) + int64_t{first_row} * args.heads * args.head_dim,
                             .num_rows = num_rows,
                             .heads = args.heads,
                             .kv_heads = args.kv_heads,
                             .head_dim = args.head_dim};
  if (decode::TakesDecode(call)) {
    decode::LaunchDecode<WindowTokens, kStages>(stream, "WindowDecode", source, call, kPartTokens,
                                                stream.multiprocessors());
  } else {
    decode::LaunchGeneral(stream, "WindowDecode", source, call);
  }
}

}  // namespace yoio::kernels::cuda
