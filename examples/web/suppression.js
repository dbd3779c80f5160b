const MAX_DETECTIONS = 100;

/**
 * Non-maximum suppression by class: the best class of each point, and of overlapping boxes of a class the best.
 *
 * @param {Float32Array} boxes (points x 4) left, top, right, bottom
 * @param {Float32Array} scores (points x classes)
 * @param {number} confidence only scores above it are listed
 * @param {number} iou boxes of one class that overlap more are of one object
 * @returns {{box: number[], score: number, label: number}[]} at most 100, by falling score
 */
export function suppress(boxes, scores, confidence, iou) {
  const least = Math.fround(confidence); // as precise as the scores
  const points = boxes.length / 4;
  const classes = scores.length / points;
  const candidates = [];
  for (let point = 0; point < points; point++) {
    let label = 0;
    for (let other = 1; other < classes; other++) {
      if (scores[classes * point + other] > scores[classes * point + label]) label = other;
    }
    const score = scores[classes * point + label];
    if (score > least) candidates.push({box: [...boxes.subarray(4 * point, 4 * point + 4)], score, label});
  }
  candidates.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const each of candidates) {
    if (kept.length === MAX_DETECTIONS) break;
    if (kept.every((other) => other.label !== each.label || overlap(other.box, each.box) <= iou)) kept.push(each);
  }
  return kept;
}

function overlap(a, b) {
  const width = Math.min(a[2], b[2]) - Math.max(a[0], b[0]);
  const height = Math.min(a[3], b[3]) - Math.max(a[1], b[1]);
  const shared = Math.max(width, 0) * Math.max(height, 0);
  const union = area(a) + area(b) - shared;
  return union > 0 ? shared / union : 0;
}

function area([left, top, right, bottom]) {
  return (right - left) * (bottom - top);
}
