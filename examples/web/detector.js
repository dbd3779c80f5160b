// Runs a .tflite that `kyolo export` wrote, in the browser, on the CPU: LiteRT.js.
import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';
import {suppress} from './suppression.js';

const GREY = 'rgb(114, 114, 114)'; // what no image covers, as in training
const WASM = new URL('node_modules/@litertjs/core/wasm/', import.meta.url).pathname;

let runtime; // one for the page: it cannot be loaded twice

/**
 * A detector of boxes in images.
 *
 * @property {number[]} imageSize height and width of the network's input
 * @property {string[]} classNames name of each label; empty where the file does not tell
 * @property {string} fit 'letterbox' or 'stretch': how images are brought to that size
 * @property {number} threads of the CPU that it takes
 */
export class Detector {
  /**
   * Load a file.
   *
   * @param {Uint8Array} file what `kyolo export --to tflite` wrote, of any precision, with --nms or without
   * @param {{threads?: number}} options threads: more than one needs a page that is cross-origin isolated
   * @throws {Error} the file is no such file, or has int8 at its border, which LiteRT.js does not take
   */
  static async load(file, {threads = 1} = {}) {
    if (String.fromCharCode(...file.subarray(4, 8)) !== 'TFL3') {
      throw new Error('expected a .tflite file, received another');
    }
    runtime ??= loadLiteRt(WASM, {threads: crossOriginIsolated});
    await runtime;
    // More threads than the processor has would wait for each other for ever.
    threads = crossOriginIsolated ? Math.min(threads, navigator.hardwareConcurrency) : 1;
    const model = await loadAndCompile(file, {accelerator: 'wasm', cpuOptions: {numThreads: threads}}).catch((reason) => {
      throw new Error(`expected a whole .tflite file, with float32 or uint8 at its border, received one that LiteRT.js ` +
        `does not load: ${reason.message}`);
    });
    const detector = new Detector(model, description(file), threads);
    await detector.run(new OffscreenCanvas(1, 1), {width: 1, height: 1}); // the first run also packs the weights
    return detector;
  }

  constructor(model, {class_names: classNames = [], fit = 'letterbox'}, threads) {
    const [input] = model.getInputDetails();
    const outputs = model.getOutputDetails();
    const names = outputs.map(({name}) => name);
    const reader = READERS.find(({needs}) => needs.every((name) => names.includes(name)));
    if (input.name !== 'images' || !reader) {
      throw new Error(`expected a file that kyolo exported, received one with the outputs ${names.join(', ')}`);
    }
    this.model = model;
    this.read = reader.read;
    this.pixelType = input.dtype === 'uint8' ? Uint8Array : Float32Array;
    this.imageSize = [...input.shape.slice(1, 3)];
    Object.assign(this, {classNames, fit, threads});
    const [height, width] = this.imageSize;
    this.canvas = new OffscreenCanvas(width, height).getContext('2d', {willReadFrequently: true});
  }

  /**
   * Find the objects in an image.
   *
   * @param {CanvasImageSource} image a bitmap, a video's current frame, a canvas
   * @param {{width: number, height: number}} size of it, pixels
   * @param {{confidence?: number, iou?: number}} options of the suppression; a file that has its own lists nothing
   *     below the confidence it was exported with
   * @returns {Promise<{detections: {box: number[], score: number, label: number}[], networkMs: number}>} boxes as left,
   *     top, right, bottom in pixels of the image, by falling score; and the time of the network alone
   */
  async detect(image, {width, height}, {confidence = 0.25, iou = 0.7} = {}) {
    const {values, place, networkMs} = await this.run(image, {width, height});
    const detections = this.read(values, confidence, iou).map(({box, ...rest}) => ({
      box: box.map((side, i) => {
        const [inputSide, scale, pad, limit] = i % 2 ? [this.imageSize[0], place.scaleY, place.top, height]
          : [this.imageSize[1], place.scaleX, place.left, width];
        return Math.min(Math.max((side * inputSide - pad) / scale, 0), limit);
      }),
      ...rest,
    }));
    return {detections, networkMs};
  }

  /** The file's outputs by name, where the image lay in its input, and the time of the network alone. */
  async run(image, {width, height}) {
    const place = fitted([height, width], this.imageSize, this.fit);
    const pixels = new Tensor(this.pixels(image, place), [1, ...this.imageSize, 3]);
    const started = performance.now();
    const outputs = await this.model.run({images: pixels});
    const networkMs = performance.now() - started;
    const values = Object.fromEntries(Object.entries(outputs).map(([name, each]) => [name, numbers(each)]));
    for (const tensor of [pixels, ...Object.values(outputs)]) tensor.delete();
    return {values, place, networkMs};
  }

  /** Free the memory that the file took. */
  delete() {
    this.model.delete();
  }

  pixels(image, {left, top, fittedWidth, fittedHeight}) {
    const [height, width] = this.imageSize;
    this.canvas.fillStyle = GREY;
    this.canvas.fillRect(0, 0, width, height);
    this.canvas.imageSmoothingQuality = 'low'; // bilinear without antialiasing, as in training
    this.canvas.drawImage(image, left, top, fittedWidth, fittedHeight);
    const {data} = this.canvas.getImageData(0, 0, width, height); // RGBA
    const rgb = new this.pixelType(3 * width * height);
    for (let from = 0, to = 0; from < data.length; from += 4) {
      rgb[to++] = data[from];
      rgb[to++] = data[from + 1];
      rgb[to++] = data[from + 2];
    }
    return rgb;
  }
}

// The three kinds of files, by their outputs; boxes in 0..1 of the network's input, by falling score.
const READERS = [
  {
    needs: ['boxes', 'scores', 'labels', 'num_detections'], // --nms
    read: ({boxes, scores, labels, num_detections: [count]}, confidence) =>
      list(count, (i) => ({box: [...boxes.subarray(4 * i, 4 * i + 4)], score: scores[i], label: labels[i]}), confidence),
  },
  {
    needs: ['locations', 'categories', 'scores', 'count'], // --nms --metadata: MediaPipe's, ymin first
    read: ({locations, categories, scores, count: [count]}, confidence) =>
      list(count, (i) => {
        const [top, left, bottom, right] = locations.subarray(4 * i, 4 * i + 4);
        return {box: [left, top, right, bottom], score: scores[i], label: categories[i]};
      }, confidence),
  },
  {needs: ['boxes', 'scores'], read: ({boxes, scores}, confidence, iou) => suppress(boxes, scores, confidence, iou)},
];

function list(count, detection, confidence) {
  return Array.from({length: count}, (_, i) => detection(i)).filter(({score}) => score > confidence);
}

/** A tensor's values: those of uint8, where 255 stands for 1, as 0..1. */
function numbers(tensor) {
  const values = tensor.toTypedArray();
  return values instanceof Uint8Array ? Float32Array.from(values, (value) => value / 255) : values.slice();
}

/** Where an image comes to lie in the network's input. */
function fitted([height, width], [inputHeight, inputWidth], fit) {
  const scale = Math.min(inputHeight / height, inputWidth / width);
  const side = (length) => Math.max(roundHalfToEven(length * scale), 1);
  const [fittedHeight, fittedWidth] = fit === 'stretch' ? [inputHeight, inputWidth] : [side(height), side(width)];
  return {
    fittedHeight,
    fittedWidth,
    top: Math.floor((inputHeight - fittedHeight) / 2),
    left: Math.floor((inputWidth - fittedWidth) / 2),
    scaleY: fittedHeight / height,
    scaleX: fittedWidth / width,
  };
}

function roundHalfToEven(value) {
  const rounded = Math.round(value);
  return value % 1 === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/**
 * What a file tells of itself: `class_names` and `fit`, JSON in its description, the model table's fourth field.
 * https://flatbuffers.dev/internals: a table begins with the distance back to its vtable, which has 2 bytes a field.
 */
function description(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const table = view.getUint32(0, true);
  const field = view.getUint16(table - view.getInt32(table, true) + 4 + 2 * 3, true);
  const text = table + field + view.getUint32(table + field, true);
  const bytes = file.subarray(text + 4, text + 4 + view.getUint32(text, true));
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    if (error instanceof SyntaxError) return {}; // another program's description
    throw error;
  }
}
