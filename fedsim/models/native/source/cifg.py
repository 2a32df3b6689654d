"""C source: the CIFG of `fedsim.models.cifg`, a time step and the recurrence, and back.

Gates in the order output, forget, candidate: c = f c + (1 - f) z. The recurrence runs on the
projection r = P (o tanh c).
"""

SOURCE = r"""
INLINE void cifg_cell(int64_t units, float *restrict gate, const float *restrict before,
                      float *restrict cell, float *restrict tanh_cell, float *restrict inner) {
    float *restrict o = gate, *restrict f = gate + units, *restrict z = gate + 2 * units;
    for (int64_t j = 0; j < units; j++) {
        o[j] = sigmoid(o[j]);
        f[j] = sigmoid(f[j]);
        z[j] = tanh_(z[j]);
        cell[j] = (1.0f - f[j]) * z[j] + (before ? f[j] * before[j] : 0.0f);
        tanh_cell[j] = tanh_(cell[j]);
        inner[j] = o[j] * tanh_cell[j];
    }
}

INLINE void cifg_cell_back(int64_t units, float *restrict gate, const float *restrict before,
                           const float *restrict tanh_cell, const float *restrict d_inner,
                           float *restrict d_cell) {
    float *restrict o = gate, *restrict f = gate + units, *restrict z = gate + 2 * units;
    for (int64_t j = 0; j < units; j++) {
        float d = d_inner[j], t = tanh_cell[j];
        float dc = d_cell[j] + d * o[j] * (1.0f - t * t);
        o[j] = d * t * o[j] * (1.0f - o[j]);
        float df = dc * ((before ? before[j] : 0.0f) - z[j]) * f[j] * (1.0f - f[j]);
        z[j] = dc * (1.0f - f[j]) * (1.0f - z[j] * z[j]);
        d_cell[j] = dc * f[j];
        f[j] = df;
    }
}

// Projections (rows, E) from the gates' inputs without their recurrent part.
static float *cifg_forward(Trainer *t, const float *w, const Batch *batch, const int64_t *first) {
    const int64_t units = t->units, gates = t->gates, width = t->width;
    float *gate = t->gate.start, *cell = floats(&t->cell, batch->rows * units),
          *tanh_cell = floats(&t->tanh_cell, batch->rows * units),
          *inner = floats(&t->inner, batch->rows * units),
          *out = floats(&t->hidden, batch->rows * width);
    Packed recurrent = packed(&t->recurrent_weights, w + t->recurrent, 1, width, width, gates);
    Packed project = packed(&t->project_weights, w + t->middle, 1, units, units, width);
    for (int64_t s = 0; s < batch->steps; s++) {
        if (s)
            skinny(batch->sizes[s], out + first[s - 1] * width, width, &recurrent, 1,
                   gate + first[s] * gates, gates);
        for (int64_t r = first[s]; r < first[s + 1]; r++) {
            const float *before = s ? cell + (r - first[s] + first[s - 1]) * units : NULL;
            cifg_cell(units, gate + r * gates, before, cell + r * units, tanh_cell + r * units,
                      inner + r * units);
        }
        skinny(batch->sizes[s], inner + first[s] * units, units, &project, 0,
               out + first[s] * width, width);
    }
    return out;
}

// Gates become their inputs' gradients, and d_out the whole gradients of the projections.
static void cifg_backward(Trainer *t, const float *w, const Batch *batch, const int64_t *first,
                          float *d_out) {
    const int64_t units = t->units, gates = t->gates, width = t->width;
    float *gate = t->gate.start, *cell = t->cell.start, *tanh_cell = t->tanh_cell.start,
          *d_cell = floats(&t->d_cell, batch->sequences * units),
          *d_inner = floats(&t->d_inner, batch->sequences * units);
    memset(d_cell, 0, batch->sequences * units * sizeof(float));
    Packed recurrent = packed(&t->recurrent_weights, w + t->recurrent, width, 1, gates, width);
    Packed project = packed(&t->project_weights, w + t->middle, units, 1, width, units);
    for (int64_t s = batch->steps - 1; s >= 0; s--) {
        skinny(batch->sizes[s], d_out + first[s] * width, width, &project, 0, d_inner, units);
        for (int64_t r = first[s]; r < first[s + 1]; r++) {
            const float *before = s ? cell + (r - first[s] + first[s - 1]) * units : NULL;
            cifg_cell_back(units, gate + r * gates, before, tanh_cell + r * units,
                           d_inner + (r - first[s]) * units, d_cell + (r - first[s]) * units);
        }
        if (s)
            skinny(batch->sizes[s], gate + first[s] * gates, gates, &recurrent, 1,
                   d_out + first[s - 1] * width, width);
    }
}
"""
