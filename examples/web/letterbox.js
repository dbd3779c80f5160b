const GREY = 114; // what no image covers, as in training

/**
 * Brings an image to a network's input, pixel for pixel as kyolo does: bilinear with half-pixel centres, without
 * antialiasing, rounded; scaled to fit with its shape kept and centred, or stretched.
 *
 * @param {ImageData} image RGBA, of which A is not used
 * @param {number[]} inputSize height and width of the input
 * @param {string} fit 'letterbox' or 'stretch'
 * @returns {{pixels: Uint8ClampedArray, place: object}} RGB by rows; and where the image lies: an input's
 *     x = image's x * scaleX + left, and y alike
 */
export function letterbox(image, inputSize, fit) {
  const place = placeOf(image, inputSize, fit);
  const [, inputWidth] = inputSize;
  const pixels = new Uint8ClampedArray(3 * inputSize[0] * inputWidth).fill(GREY);
  const columns = taps(image.width, place.width);
  taps(image.height, place.height).forEach(([above, below, down], y) => {
    const [upper, lower] = [4 * image.width * above, 4 * image.width * below];
    let to = 3 * ((place.top + y) * inputWidth + place.left);
    for (const [before, after, along] of columns) {
      for (let channel = 0; channel < 3; channel++) {
        const [west, east] = [4 * before + channel, 4 * after + channel];
        const first = mix(image.data[upper + west], image.data[upper + east], along);
        const second = mix(image.data[lower + west], image.data[lower + east], along);
        pixels[to++] = mix(first, second, down); // a clamped array rounds, halves to even numbers
      }
    }
  });
  return {pixels, place};
}

function mix(a, b, share) {
  return a + (b - a) * share;
}

/** For each of `to` positions the two of `from` that it lies between, and its distance from the first. */
function taps(from, to) {
  return Array.from({length: to}, (_, position) => {
    const at = (position + 0.5) * (from / to) - 0.5;
    const first = Math.floor(at);
    return [Math.max(first, 0), Math.min(Math.ceil(at), from - 1), at - first];
  });
}

function placeOf(image, [inputHeight, inputWidth], fit) {
  const scale = Math.min(inputHeight / image.height, inputWidth / image.width);
  const side = (length) => Math.max(roundHalfToEven(length * scale), 1);
  const [height, width] = fit === 'stretch' ? [inputHeight, inputWidth] : [side(image.height), side(image.width)];
  return {
    height,
    width,
    top: Math.floor((inputHeight - height) / 2),
    left: Math.floor((inputWidth - width) / 2),
    scaleY: height / image.height,
    scaleX: width / image.width,
  };
}

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return value % 1 === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}
