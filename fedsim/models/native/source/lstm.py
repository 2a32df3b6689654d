"""C source: the LSTM of `fedsim.models.lstm`, a time step and the recurrence, and back.

Gates in the order output, input, forget, candidate: c = f c + i z, h = o tanh c.
"""

SOURCE = r"""
INLINE void lstm_cell(int64_t units, float *restrict gate, const float *restrict before,
                      float *restrict cell, float *restrict tanh_cell, float *restrict hidden) {
    float *restrict o = gate, *restrict i = gate + units, *restrict f = gate + 2 * units,
                    *restrict z = gate + 3 * units;
    for (int64_t j = 0; j < units; j++) {
        o[j] = sigmoid(o[j]);
        i[j] = sigmoid(i[j]);
        f[j] = sigmoid(f[j]);
        z[j] = tanh_(z[j]);
        cell[j] = i[j] * z[j] + (before ? f[j] * before[j] : 0.0f);
        tanh_cell[j] = tanh_(cell[j]);
        hidden[j] = o[j] * tanh_cell[j];
    }
}

// Gates become their inputs' gradients; d_cell goes from this step's cell to the one before.
INLINE void lstm_cell_back(int64_t units, float *restrict gate, const float *restrict before,
                           const float *restrict tanh_cell, const float *restrict d_hidden,
                           float *restrict d_cell) {
    float *restrict o = gate, *restrict i = gate + units, *restrict f = gate + 2 * units,
                    *restrict z = gate + 3 * units;
    for (int64_t j = 0; j < units; j++) {
        float d = d_hidden[j], t = tanh_cell[j];
        float dc = d_cell[j] + d * o[j] * (1.0f - t * t);
        o[j] = d * t * o[j] * (1.0f - o[j]);
        float di = dc * z[j] * i[j] * (1.0f - i[j]), dz = dc * i[j] * (1.0f - z[j] * z[j]);
        d_cell[j] = dc * f[j];
        f[j] = before ? dc * before[j] * f[j] * (1.0f - f[j]) : 0.0f;
        i[j] = di;
        z[j] = dz;
    }
}

// Hidden states (rows, H) from the gates' inputs without their recurrent part.
static float *lstm_forward(Trainer *t, const float *w, const Batch *batch, const int64_t *first) {
    const int64_t units = t->units, gates = t->gates;
    float *gate = t->gate.start, *cell = floats(&t->cell, batch->rows * units),
          *tanh_cell = floats(&t->tanh_cell, batch->rows * units),
          *hidden = floats(&t->hidden, batch->rows * units);
    Packed recurrent =
        packed(&t->recurrent_weights, w + t->recurrent, 1, units, units, gates);
    for (int64_t s = 0; s < batch->steps; s++) {
        if (s)
            skinny(batch->sizes[s], hidden + first[s - 1] * units, units, &recurrent, 1,
                   gate + first[s] * gates, gates);
        for (int64_t r = first[s]; r < first[s + 1]; r++) {
            const float *before = s ? cell + (r - first[s] + first[s - 1]) * units : NULL;
            lstm_cell(units, gate + r * gates, before, cell + r * units, tanh_cell + r * units,
                      hidden + r * units);
        }
    }
    return hidden;
}

// Gates become their inputs' gradients, given those of the hidden states from the output layer.
static void lstm_backward(Trainer *t, const float *w, const Batch *batch, const int64_t *first,
                          float *d_hidden) {
    const int64_t units = t->units, gates = t->gates;
    float *gate = t->gate.start, *cell = t->cell.start, *tanh_cell = t->tanh_cell.start,
          *d_cell = floats(&t->d_cell, batch->sequences * units);
    memset(d_cell, 0, batch->sequences * units * sizeof(float));
    Packed recurrent =
        packed(&t->recurrent_weights, w + t->recurrent, units, 1, gates, units);
    for (int64_t s = batch->steps - 1; s >= 0; s--) {
        for (int64_t r = first[s]; r < first[s + 1]; r++) {
            const float *before = s ? cell + (r - first[s] + first[s - 1]) * units : NULL;
            lstm_cell_back(units, gate + r * gates, before, tanh_cell + r * units,
                           d_hidden + r * units, d_cell + (r - first[s]) * units);
        }
        if (s)
            skinny(batch->sizes[s], gate + first[s] * gates, gates, &recurrent, 1,
                   d_hidden + first[s - 1] * units, units);
    }
}
"""
