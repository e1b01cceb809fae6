/** Vectors in two dimensions, by principal component analysis. Pure, for a worker. */

const STEPS = 60;

/**
 * `matrix` is a Float32Array of `count` rows. Gives {points, explained}: [x, y] of each row along the two directions in which
 * they differ most, and the share of all variance that these two hold.
 */
export function project({ matrix, count }) {
  const width = matrix.length / count;
  const rows = centred(matrix, count, width);
  const total = rows.reduce((sum, x) => sum + x * x, 0);
  const first = direction(rows, count, width, []);
  const second = direction(rows, count, width, [first]);
  const along = (axis, row) => product(rows, row * width, axis);
  const points = Array.from({ length: count }, (_, row) => [along(first, row), along(second, row)]);
  const held = points.reduce((sum, [x, y]) => sum + x * x + y * y, 0);
  return { points, explained: total > 0 ? held / total : 1 };
}

function centred(matrix, count, width) {
  const mean = new Float64Array(width);
  for (let i = 0; i < matrix.length; i += 1) mean[i % width] += matrix[i] / count;
  return Float64Array.from(matrix, (x, i) => x - mean[i % width]);
}

/** The direction of the largest variance that is orthogonal to `others`, by power iteration. */
function direction(rows, count, width, others) {
  let axis = Float64Array.from({ length: width }, (_, i) => Math.sin(i + 1 + others.length)); // the same each time
  for (let step = 0; step < STEPS; step += 1) {
    const next = new Float64Array(width);
    for (let row = 0; row < count; row += 1) {
      const weight = product(rows, row * width, axis);
      for (let i = 0; i < width; i += 1) next[i] += weight * rows[row * width + i];
    }
    for (const other of others) {
      const shared = product(next, 0, other);
      for (let i = 0; i < width; i += 1) next[i] -= shared * other[i];
    }
    const length = Math.sqrt(product(next, 0, next));
    if (length < 1e-12) return new Float64Array(width); // nothing differs in any further direction
    axis = next.map((x) => x / length);
  }
  return axis;
}

function product(values, from, axis) {
  let sum = 0;
  for (let i = 0; i < axis.length; i += 1) sum += values[from + i] * axis[i];
  return sum;
}
