"""C source: Gaussian noise as a function of (key, step, index).

Philox4x64-10 (Salmon et al. 2011), as NumPy's `Philox(key=key, counter=[0, 0, step, 0])`, and the
Box-Muller transform of its 64-bit words.
"""

SOURCE = r"""
enum { PAIRS = 512 };  // a block is the cosines of so many words, then their sines

INLINE uint64_t high_product(uint64_t a, uint64_t b, uint64_t *low) {
    unsigned __int128 product = (unsigned __int128)a * b;
    *low = (uint64_t)product;
    return (uint64_t)(product >> 64);
}

static void philox(uint64_t key0, uint64_t key1, uint64_t counter, uint64_t step, uint64_t *out) {
    uint64_t x0 = counter, x1 = 0, x2 = step, x3 = 0;
    for (int round = 0; round < 10; round++) {
        uint64_t low0, low2, high0 = high_product(0xD2E7470EE14C6C93u, x0, &low0),
                             high2 = high_product(0xCA5A826395121157u, x2, &low2);
        uint64_t y0 = high2 ^ x1 ^ key0, y2 = high0 ^ x3 ^ key1;
        x0 = y0, x1 = low2, x2 = y2, x3 = low0;
        key0 += 0x9E3779B97F4A7C15u;
        key1 += 0xBB67AE8584CAA73Bu;
    }
    out[0] = x0, out[1] = x1, out[2] = x2, out[3] = x3;
}

// Natural logarithm of a positive normal number (Cephes).
INLINE float log_(float x) {
    union { float f; int32_t i; } bits = {x};
    int32_t exponent = ((bits.i >> 23) & 255) - 126;
    bits.i = (bits.i & 0x007fffff) | 0x3f000000;
    float m = bits.f;
    int32_t small = m < 0.707106781186547524f;
    float e = exponent - small;
    m = (small ? m + m : m) - 1.0f;
    float s = m * m, p = 7.0376836292e-2f;
    p = p * m - 1.1514610310e-1f;
    p = p * m + 1.1676998740e-1f;
    p = p * m - 1.2420140846e-1f;
    p = p * m + 1.4249322787e-1f;
    p = p * m - 1.6668057665e-1f;
    p = p * m + 2.0000714765e-1f;
    p = p * m - 2.4999993993e-1f;
    p = p * m + 3.3333331174e-1f;
    return m + (m * s * p + e * -2.12194440e-4f - 0.5f * s) + e * 0.693359375f;
}

// The normal deviates of block `block`, float[2 x PAIRS].
static void normal_block(uint64_t key0, uint64_t key1, uint64_t step, uint64_t block,
                         float *restrict out) {
    uint64_t words[PAIRS];
    for (int k = 0; k < PAIRS; k += 4)  // NumPy counts before it draws
        philox(key0, key1, block * (PAIRS / 4) + k / 4 + 1, step, words + k);
    uint32_t low[PAIRS];
    int32_t high[PAIRS];
    for (int k = 0; k < PAIRS; k++) {
        low[k] = (uint32_t)words[k];
        high[k] = (int32_t)(words[k] >> 32);
    }
    for (int k = 0; k < PAIRS; k++) {
        float radius = sqrtf(-2.0f * log_((float)low[k] * 0x1p-32f + 0x1p-33f));
        float turn = (float)high[k] * 0x1p-32f, quarter = rintf(turn * 4.0f);
        float a = (turn - quarter * 0.25f) * 6.28318530717958648f, s = a * a;
        float sine = (-1.9515295891e-4f * s + 8.3321608736e-3f) * s - 1.6666654611e-1f;
        sine = sine * s * a + a;
        float cosine = ((2.443315711809948e-5f * s - 1.388731625493765e-3f) * s +
                        4.166664568298827e-2f) * s * s - 0.5f * s + 1.0f;
        int32_t q = (int32_t)quarter;
        float c = q & 1 ? sine : cosine, d = q & 1 ? cosine : sine;
        // quarter 1: cos -> -sin, sin -> cos; 2: both change sign; 3 (or -1): sin, -cos.
        out[k] = radius * ((q + 1) & 2 ? -c : c);
        out[PAIRS + k] = radius * (q & 2 ? -d : d);
    }
}

// values += scale x normal deviates.
static void add_noise(float *restrict values, int64_t count, float scale, uint64_t key0,
                      uint64_t key1, uint64_t step) {
    float noise[2 * PAIRS];
    for (int64_t at = 0; at < count; at += 2 * PAIRS) {
        normal_block(key0, key1, step, at / (2 * PAIRS), noise);
        const int64_t end = least(2 * PAIRS, count - at);
        for (int64_t k = 0; k < end; k++) values[at + k] += scale * noise[k];
    }
}
"""
