// The draft's depth loop on a CPU: forward, rank, take each row's best token, and again, in one call.
//
// Called through ctypes it needs no interpreter from the first depth to the last, so that drafting and verifying
// never wait for each other's lock, and a depth costs its forward pass and little more.
//
// The model is an AOTInductor container; its inputs are those of the engine contract.

#include <atomic>
#include <cstdint>
#include <cstring>
#include <ctime>
#include <vector>

#include <torch/csrc/inductor/aoti_torch/c/shim.h>

namespace {

using Run = int32_t (*)(void* container, AtenTensorHandle* inputs, size_t input_count, AtenTensorHandle* outputs,
                        size_t output_count, void* stream, void* proxy);

// Eight bytes each, in the order in which __init__.py passes them.
struct Rollout {
  Run run;
  void* container;
  AtenTensorHandle* cache;  // [caches]: key and value of each layer; stay the caller's
  int64_t caches;
  int64_t count, depths, width, rows, candidates, vocabulary;
  const int64_t* widths;     // [depths]
  const int64_t* tokens;     // [count, width]
  const int64_t* positions;  // [count, width]
  const uint8_t* visible;    // [count, width, rows]
  const int64_t* prefix;     // [count]
  const int64_t* write;      // [count]
  const float* const* noise;      // [count]: rows of `noise_width` each, or null
  const int64_t* noise_position;  // [count]: of the first of these rows
  const int64_t* noise_width;     // [count]: floats from one row to the next
  const float* scale;             // [count]: 1 / temperature
  int64_t* best_tokens;           // [depths, count, width, candidates]
  float* best_scores;             // the same
  int32_t* control;               // depths done, depths wanted
  double* times;                  // [depths, 2]: seconds when the forward pass began and ended
};

double now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return double(time.tv_sec) + 1e-9 * double(time.tv_nsec);
}

// Runs of this many scores are looked at as one: hardly any has a score that is among the best.
constexpr int64_t RUN = 64;

// The `candidates` best of logits * scale + noise, best first; of equal ones the first. Product and sum are rounded one
// by one, as in the reference of tree_accept: the target's samples do not depend on where they are drawn.
__attribute__((optimize("fp-contract=off"))) void rank(const float* logits, const float* noise, float scale, int64_t size, int64_t candidates, int64_t* tokens,
          float* scores) {
  int64_t found = 0;
  float values[RUN];
  for (int64_t first = 0; first < size; first += RUN) {
    const int64_t length = size - first < RUN ? size - first : RUN;
    if (noise)
      for (int64_t i = 0; i < length; ++i) values[i] = logits[first + i] * scale + noise[first + i];
    else
      std::memcpy(values, logits + first, length * sizeof(float));
    if (found == candidates) {
      const float least = scores[candidates - 1];
      int32_t any = 0;
      for (int64_t i = 0; i < length; ++i) any |= values[i] > least;
      if (!any) continue;
    }
    for (int64_t i = 0; i < length; ++i) {
      if (found == candidates && !(values[i] > scores[candidates - 1])) continue;
      int64_t place = found < candidates ? found++ : candidates - 1;
      for (; place > 0 && values[i] > scores[place - 1]; --place) {
        scores[place] = scores[place - 1];
        tokens[place] = tokens[place - 1];
      }
      scores[place] = values[i];
      tokens[place] = first + i;
    }
  }
}

AtenTensorHandle view(void* data, int64_t dimensions, const int64_t* sizes, int32_t dtype) {
  int64_t strides[4];
  int64_t stride = 1;
  for (int64_t i = dimensions - 1; i >= 0; --i) {
    strides[i] = stride;
    stride *= sizes[i];
  }
  AtenTensorHandle tensor = nullptr;
  aoti_torch_create_tensor_from_blob(data, dimensions, sizes, strides, 0, dtype, aoti_torch_device_type_cpu(), 0,
                                     &tensor);
  return tensor;
}

// Which cache rows each of a depth's tokens sees: the prefix, what depth 0's saw, and its own row of every depth since.
void fill_mask(const Rollout& r, int64_t depth, int64_t seen, uint8_t* mask) {
  const int64_t width = r.widths[depth];
  std::memset(mask, 0, r.count * width * seen);
  for (int64_t b = 0; b < r.count; ++b)
    for (int64_t i = 0; i < width; ++i) {
      uint8_t* line = mask + (b * width + i) * seen;
      std::memset(line, 1, r.prefix[b]);
      line += r.prefix[b];
      std::memcpy(line, r.visible + (b * r.width + i) * r.rows, r.rows);
      line += r.rows;
      for (int64_t d = 1; d <= depth; line += r.widths[d++]) line[i] = 1;
    }
}

int32_t step(const Rollout& r, int64_t depth, std::vector<int64_t>& tokens, std::vector<int64_t>& write,
             AtenTensorHandle* logits) {
  const int64_t width = r.widths[depth];
  int64_t longest = 0, rows = r.rows;
  for (int64_t b = 0; b < r.count; ++b) longest = r.prefix[b] > longest ? r.prefix[b] : longest;
  for (int64_t d = 1; d <= depth; ++d) rows += r.widths[d];
  const int64_t seen = longest + rows;
  std::vector<int64_t> positions(r.count * width);
  std::vector<uint8_t> mask(r.count * width * seen);
  for (int64_t b = 0; b < r.count; ++b)
    for (int64_t i = 0; i < width; ++i) positions[b * width + i] = r.positions[b * r.width + i] + depth;
  fill_mask(r, depth, seen, mask.data());

  const int64_t flat[] = {r.count, width}, masked[] = {r.count, 1, width, seen}, counts[] = {r.count};
  std::vector<AtenTensorHandle> inputs = {
      view(tokens.data(), 2, flat, aoti_torch_dtype_int64()), view(positions.data(), 2, flat, aoti_torch_dtype_int64()),
      view(mask.data(), 4, masked, aoti_torch_dtype_bool()), view(write.data(), 1, counts, aoti_torch_dtype_int64())};
  for (int64_t i = 0; i < r.caches; ++i) {
    AtenTensorHandle mine = nullptr;  // the model takes the handles that it is given
    aoti_torch_new_tensor_handle(r.cache[i], &mine);
    inputs.push_back(mine);
  }
  for (AtenTensorHandle input : inputs)
    if (!input) return 1;
  r.times[2 * depth] = now();
  const int32_t failed = r.run(r.container, inputs.data(), inputs.size(), logits, 1, nullptr, nullptr);
  r.times[2 * depth + 1] = now();
  for (int64_t b = 0; b < r.count; ++b) write[b] += width;
  return failed;
}

int32_t rank_all(const Rollout& r, int64_t depth, AtenTensorHandle logits) {
  void* data;
  int64_t* strides;
  if (aoti_torch_get_data_ptr(logits, &data) || aoti_torch_get_strides(logits, &strides) || strides[2] != 1) return 1;
  for (int64_t b = 0; b < r.count; ++b)
    for (int64_t i = 0; i < r.widths[depth]; ++i) {
      const int64_t out = ((depth * r.count + b) * r.width + i) * r.candidates;
      const int64_t position = r.positions[b * r.width + i] + depth + 1;
      const float* noise = r.noise[b] ? r.noise[b] + (position - r.noise_position[b]) * r.noise_width[b] : nullptr;
      rank(static_cast<const float*>(data) + b * strides[0] + i * strides[1], noise, r.scale[b], r.vocabulary,
           r.candidates, r.best_tokens + out, r.best_scores + out);
    }
  return 0;
}

int32_t run(const Rollout& r) {
  auto* done = reinterpret_cast<std::atomic<int32_t>*>(r.control);
  auto* wanted = done + 1;
  std::vector<int64_t> tokens(r.tokens, r.tokens + r.count * r.width), write(r.write, r.write + r.count);
  for (int64_t depth = 0; depth < r.depths && depth < wanted->load(); ++depth) {
    if (depth) {
      const int64_t width = r.widths[depth];
      tokens.resize(r.count * width);
      for (int64_t b = 0; b < r.count; ++b)
        for (int64_t i = 0; i < width; ++i)
          tokens[b * width + i] = r.best_tokens[(((depth - 1) * r.count + b) * r.width + i) * r.candidates];
    }
    AtenTensorHandle logits = nullptr;
    if (step(r, depth, tokens, write, &logits)) return 1;
    const int32_t failed = rank_all(r, depth, logits);
    aoti_torch_delete_tensor_object(logits);
    if (failed) return 1;
    done->store(int32_t(depth + 1));
  }
  return 0;
}

}  // namespace

// 0, or 1 when the model fails.
extern "C" int32_t saguaro_draft_rollout(const Rollout* rollout) { return run(*rollout); }
