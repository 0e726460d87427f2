// Whether this CPU runs these kernels, and rightly: weights of each type times one column and times many, and flash
// attention, beside plain arithmetic. A kernel that faults ends the process, one that is wrong its status.

#pragma once

#include "ggml.h"

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <vector>

namespace {

constexpr int64_t WIDTH = 512, ROWS = 32, LONGEST = 40;  // of the weights; columns
constexpr size_t MEMORY = 64 << 20;
constexpr double TOLERANCE = 0.05;  // activations are rounded to 8 bits

struct Pair {
    ggml_type plain, packed;  // the same weights, in rows and interleaved
};

const Pair TYPES[] = {
    {GGML_TYPE_F32, GGML_TYPE_F32},
    {GGML_TYPE_F16, GGML_TYPE_F16},
    {GGML_TYPE_BF16, GGML_TYPE_BF16},
    {GGML_TYPE_Q4_0, GGML_TYPE_Q4_0_R8},
    {GGML_TYPE_Q4_1, GGML_TYPE_Q4_1},
    {GGML_TYPE_Q5_0, GGML_TYPE_Q5_0_R4},
    {GGML_TYPE_Q5_1, GGML_TYPE_Q5_1},
    {GGML_TYPE_Q8_0, GGML_TYPE_Q8_0_R8},
    {GGML_TYPE_Q2_K, GGML_TYPE_Q2_K_R4},
    {GGML_TYPE_Q3_K, GGML_TYPE_Q3_K_R4},
    {GGML_TYPE_Q4_K, GGML_TYPE_Q4_K_R4},
    {GGML_TYPE_Q5_K, GGML_TYPE_Q5_K_R4},
    {GGML_TYPE_Q6_K, GGML_TYPE_Q6_K_R4},
    {GGML_TYPE_IQ4_NL, GGML_TYPE_IQ4_NL_R4},
    {GGML_TYPE_IQ4_XS, GGML_TYPE_IQ4_XS_R8},
};

// Mostly small, as weights and activations are: kernels may saturate where all of a row is as large as can be.
std::vector<float> noise(int64_t count, uint32_t seed) {
    std::vector<float> values(count);
    for (auto & value : values) {
        for (int i = 0; i < 4; ++i) {
            seed = seed*1664525u + 1013904223u;
            value += (float)(seed >> 8)/(1 << 23) - 1.0f;
        }
    }
    return values;
}

// The weights as a type stores them.
std::vector<char> stored(ggml_type type, const std::vector<float> & weights) {
    std::vector<char> data(ggml_row_size(type, WIDTH)*ROWS);
    ggml_quantize_chunk(type, weights.data(), data.data(), 0, ROWS, WIDTH, nullptr);
    return data;
}

// What the kernels make of stored weights and some columns.
std::vector<float> product(ggml_type type, const std::vector<char> & weights, const std::vector<float> & columns) {
    ggml_init_params params = {MEMORY, nullptr, false};
    auto ctx = ggml_init(params);
    auto w = ggml_new_tensor_2d(ctx, type, WIDTH, ROWS);
    auto x = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, WIDTH, columns.size()/WIDTH);
    memcpy(w->data, weights.data(), weights.size());
    memcpy(x->data, columns.data(), ggml_nbytes(x));
    auto graph = ggml_new_graph(ctx);
    auto y = ggml_mul_mat(ctx, w, x);
    ggml_build_forward_expand(graph, y);
    ggml_graph_compute_with_ctx(ctx, graph, 1);
    auto data = (const float *)y->data;
    std::vector<float> values(data, data + ggml_nelements(y));
    ggml_free(ctx);
    return values;
}

// Stored weights, as they are once they were rounded to the type.
std::vector<float> rounded(ggml_type type, const std::vector<char> & weights) {
    std::vector<float> values(WIDTH*ROWS);
    if (type == GGML_TYPE_F32) {
        memcpy(values.data(), weights.data(), weights.size());
        return values;
    }
    for (int64_t row = 0; row < ROWS; ++row) {
        auto data = weights.data() + row*ggml_row_size(type, WIDTH);
        ggml_internal_get_type_traits(type).to_float(data, values.data() + row*WIDTH, WIDTH);
    }
    return values;
}

bool is_right(const std::vector<float> & y, const std::vector<float> & weights, const std::vector<float> & columns) {
    double error = 0, size = 0;
    for (size_t i = 0; i < y.size(); ++i) {
        auto w = weights.data() + i%ROWS*WIDTH, x = columns.data() + i/ROWS*WIDTH;
        double sum = 0;
        for (int64_t j = 0; j < WIDTH; ++j) sum += (double)w[j]*x[j];
        error += (y[i] - sum)*(y[i] - sum);
        size += sum*sum;
    }
    return error <= TOLERANCE*TOLERANCE*size;  // and not if it is no number
}

bool weights_work() {
    const auto weights = noise(WIDTH*ROWS, 1);
    for (const auto & pair : TYPES) {
        const auto plain = rounded(pair.plain, stored(pair.plain, weights));
        for (auto type : {pair.plain, pair.packed}) {
            const auto data = stored(type, weights);
            for (int64_t count : {(int64_t)1, (int64_t)8, LONGEST}) {
                const auto columns = noise(WIDTH*count, 2);
                if (!is_right(product(type, data, columns), plain, columns)) {
                    fprintf(stderr, "wrong: %s times %d\n", ggml_type_name(type), (int)count);
                    return false;
                }
            }
        }
    }
    return true;
}

// Attention to equal keys is the mean of the values.
bool attention_works() {
    constexpr int64_t head = 64, keys = 256, heads = 2;
    ggml_init_params params = {MEMORY, nullptr, false};
    auto ctx = ggml_init(params);
    bool works = true;
    for (int64_t queries : {(int64_t)1, LONGEST}) {
        auto q = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, head, queries, heads);
        auto k = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, head, keys, heads);
        auto v = ggml_new_tensor_3d(ctx, GGML_TYPE_F16, head, keys, heads);
        auto mask = ggml_new_tensor_2d(ctx, GGML_TYPE_F16, keys, GGML_PAD(queries, GGML_KQ_MASK_PAD));
        const auto asked = noise(ggml_nelements(q), 3), values = noise(head*keys*heads, 4);
        memcpy(q->data, asked.data(), ggml_nbytes(q));
        memset(k->data, 0, ggml_nbytes(k));
        memset(mask->data, 0, ggml_nbytes(mask));
        ggml_fp32_to_fp16_row(values.data(), (ggml_fp16_t *)v->data, values.size());
        auto graph = ggml_new_graph(ctx);
        auto y = ggml_flash_attn_ext(ctx, q, k, v, mask, 1.0f/8, 0.0f, 0.0f);
        ggml_build_forward_expand(graph, y);
        ggml_graph_compute_with_ctx(ctx, graph, 1);
        for (int64_t h = 0; h < heads; ++h) {
            for (int64_t d = 0; d < head; ++d) {
                double mean = 0;
                for (int64_t key = 0; key < keys; ++key) mean += values[(h*keys + key)*head + d]/keys;
                for (int64_t n = 0; n < queries; ++n) {
                    works = works && std::fabs(((float *)y->data)[(n*heads + h)*head + d] - mean) < TOLERANCE;
                }
            }
        }
    }
    ggml_free(ctx);
    if (!works) fprintf(stderr, "wrong: flash attention\n");
    return works;
}

int probe() {
    return weights_work() && attention_works() ? 0 : 1;
}

}  // namespace
