// A float32 matrix product for few rows on a CPU: out[m, n] = sum_k x[m, k] * w[n, k].
//
// Verifying a handful of tokens should cost what one token costs, the reading of the weights. So the weights
// are packed into panels of PANEL output features, each a contiguous stream [K][PANEL], and every panel is read
// once for up to ROWS rows. Hardware prefetchers stop at page ends and fall behind when there is arithmetic in
// between, hence the software prefetch.
//
// Each output is one chain of fused multiply-adds over k, whatever the number of rows: a token's result does not
// depend on how many tokens are computed with it. Autoregressive and speculative decoding rely on that.

#include <cstdint>
#include <cstring>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace {

#ifdef __AVX512F__
constexpr int LANES = 16;
constexpr int ROWS = 12;  // 24 sums, 2 weights: of 32 registers
constexpr int NEAR = 4;   // from so many rows on, fetch in two stages
#else
constexpr int LANES = 8;
constexpr int ROWS = 6;  // 12 sums, 2 weights: of 16 registers
constexpr int NEAR = ROWS + 1;
#endif
constexpr int PANEL = 2 * LANES;

typedef float Vector __attribute__((vector_size(LANES * sizeof(float))));

// With few rows the reading is all there is, and lines go straight into the first-level cache. With more, arithmetic
// takes as long as the reading; the second-level cache has room for more lines on their way (measured on AVX-512: 6
// rows in 0.82 of the time).
template <int COUNT>
inline void fetch_ahead(const float* line) {
  if constexpr (COUNT < NEAR) {
    __builtin_prefetch(line + 32 * PANEL);
    __builtin_prefetch(line + 32 * PANEL + LANES);
  } else {
    __builtin_prefetch(line + 128 * PANEL, 0, 2);
    __builtin_prefetch(line + 128 * PANEL + LANES, 0, 2);
    __builtin_prefetch(line + 8 * PANEL);
    __builtin_prefetch(line + 8 * PANEL + LANES);
  }
}

template <int COUNT>
void block(const float* __restrict__ x, const float* __restrict__ w, int64_t k_size, float* __restrict__ out,
           int64_t features, int64_t columns) {
  Vector sum[COUNT][2] = {};
  for (int64_t k = 0; k < k_size; ++k) {
    const float* line = w + k * PANEL;
    fetch_ahead<COUNT>(line);
    Vector left, right;
    std::memcpy(&left, line, sizeof left);
    std::memcpy(&right, line + LANES, sizeof right);
#pragma GCC unroll 12
    for (int row = 0; row < COUNT; ++row) {
      const float value = x[row * k_size + k];
      sum[row][0] += value * left;
      sum[row][1] += value * right;
    }
  }
  for (int row = 0; row < COUNT; ++row) std::memcpy(out + row * features, sum[row], columns * sizeof(float));
}

using Block = decltype(&block<1>);
constexpr Block BLOCKS[] = {
    block<1>, block<2>, block<3>, block<4>, block<5>, block<6>,
#ifdef __AVX512F__
    block<7>, block<8>, block<9>, block<10>, block<11>, block<12>,
#endif
};

void multiply(const float* x, const float* w, float* out, int64_t rows, int64_t k_size, int64_t features,
              int64_t threads) {
  const int64_t panels = (features + PANEL - 1) / PANEL;
  const int64_t blocks = (rows + ROWS - 1) / ROWS;
#pragma omp parallel for num_threads(threads) if (threads > 1)
  for (int64_t panel = 0; panel < panels; ++panel) {
    const int64_t first = panel * PANEL;
    const int64_t columns = features - first < PANEL ? features - first : PANEL;
    for (int64_t part = 0; part < blocks; ++part) {  // blocks of even size: 16 rows are 8 and 8
      const int64_t begin = rows * part / blocks, end = rows * (part + 1) / blocks;
      if (begin < end)
        BLOCKS[end - begin - 1](x + begin * k_size, w + first * k_size, k_size, out + begin * features + first,
                                features, columns);
    }
  }
}

}  // namespace

extern "C" {

int64_t saguaro_panel() { return PANEL; }

// The C shim of torch.ops.saguaro.packed_linear: x [M, K], w [panels, K, PANEL] -> [M, features], all contiguous.
AOTITorchError aoti_torch_cpu_packed_linear(AtenTensorHandle x, AtenTensorHandle w, int64_t features,
                                            int64_t threads, AtenTensorHandle* result) {
  void *x_data, *w_data, *out_data;
  int64_t *sizes, *strides;
  if (aoti_torch_get_data_ptr(x, &x_data) || aoti_torch_get_data_ptr(w, &w_data) ||
      aoti_torch_get_sizes(x, &sizes) || aoti_torch_get_strides(x, &strides))
    return AOTI_TORCH_FAILURE;
  const int64_t rows = sizes[0], k_size = sizes[1];
  if (strides[1] != 1 || (rows > 1 && strides[0] != k_size)) return AOTI_TORCH_FAILURE;
  const int64_t out_sizes[] = {rows, features}, out_strides[] = {features, 1};
  if (aoti_torch_empty_strided(2, out_sizes, out_strides, aoti_torch_dtype_float32(), aoti_torch_device_type_cpu(), 0,
                               result) ||
      aoti_torch_get_data_ptr(*result, &out_data))
    return AOTI_TORCH_FAILURE;
  multiply(static_cast<const float*>(x_data), static_cast<const float*>(w_data), static_cast<float*>(out_data), rows,
           k_size, features, threads);
  return AOTI_TORCH_SUCCESS;
}

}
