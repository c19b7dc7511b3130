// WindowDecode: query rows over the rings that hold their sequences' last tokens, and over the tokens of this
// call, which then go to the rings: a row's own, and those of the rows before it when its sequence has
// several. A sequence has at most a warp of them, so that a token in this call takes the place of none that
// a row of it still sees.
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

static_assert(kMostGeneratedTokens <= 32, "a warp finds the first of them");
static_assert(kMostGeneratedTokens <= kBlockTokens, "a ring has room for them beside the window");

// The window of each row: its last tokens in the ring of its sequence, then those of this call. Load is
// called by whole warps.
struct WindowTokens {
  struct Row {
    int count;
    int length;
    int in_call;  // the last tokens of the row that are in this call, its own included
    int ring_slot;
    const __nv_bfloat16* ring;
    const __nv_bfloat16* k;
    const __nv_bfloat16* v;
  };

  int capacity;        // the window
  int most_span_rows;  // tokens of a sequence in this call
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
            .in_call = most_span_rows == 1 ? 1 : CountInCall(row, paged),
            .ring_slot = ring_slots[row],
            .ring = ring + int64_t{max(paged.slot, 0)} * ring_tokens * kv_heads * 2 * head_dim,
            .k = k + row * row_stride,
            .v = v + row * row_stride};
  }
  __device__ int Find(const Row& row, int token) const {
    const int position = row.length - row.count + token, before = row.length - 1 - position;
    return before < row.in_call ? -1 - before : position % ring_tokens;
  }
  // A negative place -1 - r is the row that is r before this one.
  __device__ TokenAddress At(const Row& row, int place, int kv_head) const {
    if (place < 0) {
      const int64_t offset = (place + 1) * row_stride + kv_head * head_dim;
      return {row.k + offset, row.v + offset};
    }
    const __nv_bfloat16* key = row.ring + (int64_t{place} * kv_heads + kv_head) * 2 * head_dim;
    return {key, key + head_dim};
  }
  // A sequence's rows lie side by side: lane i looks whether the row i before this one is i tokens before it.
  __device__ int CountInCall(int row, const PagedRow& paged) const {
    const int lane = threadIdx.x % 32, other = row - lane;
    const bool same = other >= 0 && lane < most_span_rows && rows[other].slot == paged.slot &&
                      rows[other].length == paged.length - lane;
    const unsigned others = ~__ballot_sync(~0u, same);
    return others == 0 ? 32 : __ffs(others) - 1;
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

void WindowDecode(const WindowAttentionArgs& args, int first_row, int num_rows, int most_span_rows,
                  CudaStream& stream) {
  YOIO_CHECK_LE(most_span_rows, kMostGeneratedTokens);
  const int64_t skipped = first_row * args.row_stride;
  const WindowTokens source = {.capacity = args.window,
                               .most_span_rows = most_span_rows,
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
