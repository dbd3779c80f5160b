// Runs a .tflite that `kyolo export` wrote, in the browser, on the CPU: LiteRT.js.
import {loadAndCompile, loadLiteRt, Tensor} from '@litertjs/core';
import {description} from './description.js';
import {letterbox} from './letterbox.js';
import {suppress} from './suppression.js';

const WASM = new URL('node_modules/@litertjs/core/wasm/', import.meta.url).pathname;

let runtime; // one for the page: it cannot be loaded twice

/**
 * A detector of boxes in images.
 *
 * @property {number[]} imageSize height and width of the network's input
 * @property {string[]} classNames name of each label; empty where the file does not tell
 * @property {string} fit 'letterbox' or 'stretch': how images are brought to that size
 * @property {boolean} described whether the file tells these two; else fit is 'letterbox'
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
    const most = crossOriginIsolated ? navigator.hardwareConcurrency : 1;
    const numThreads = Math.max(Math.min(Math.floor(threads) || 1, most), 1);
    const model = await loadAndCompile(file, {accelerator: 'wasm', cpuOptions: {numThreads}}).catch((reason) => {
      throw new Error(`expected a whole .tflite file, with float32 or uint8 at its border, received one that LiteRT.js ` +
        `does not load: ${reason.message}`);
    });
    try {
      const detector = new Detector(model, description(file), numThreads);
      await detector.run(new ImageData(1, 1)); // the first run also packs the weights
      return detector;
    } catch (error) {
      model.delete();
      throw error;
    }
  }

  constructor(model, about, threads) {
    const [input] = model.getInputDetails();
    const names = model.getOutputDetails().map(({name}) => name);
    const reader = READERS.find(({needs}) => needs.every((name) => names.includes(name)));
    if (input.name !== 'images' || !reader) {
      throw new Error(`expected a file that kyolo exported, received one with the outputs ${names.join(', ')}`);
    }
    this.model = model;
    this.read = reader.read;
    this.pixelType = input.dtype === 'uint8' ? Uint8Array : Float32Array;
    this.imageSize = [...input.shape.slice(1, 3)];
    this.classNames = about?.classNames ?? [];
    this.fit = about?.fit ?? 'letterbox';
    this.described = about !== undefined;
    this.threads = threads;
  }

  /**
   * Find the objects in an image.
   *
   * @param {ImageData} image
   * @param {{confidence?: number, iou?: number}} options of the suppression; a file that has its own lists nothing
   *     below the confidence it was exported with
   * @returns {Promise<{detections: {box: number[], score: number, label: number}[], networkMs: number}>} boxes as left,
   *     top, right, bottom in pixels of the image, by falling score; and the time of the network alone
   */
  async detect(image, {confidence = 0.25, iou = 0.7} = {}) {
    const {values, place, networkMs} = await this.run(image);
    const [inputHeight, inputWidth] = this.imageSize;
    const x = (side) => clip((side * inputWidth - place.left) / place.scaleX, image.width);
    const y = (side) => clip((side * inputHeight - place.top) / place.scaleY, image.height);
    const detections = this.read(values, confidence, iou).map(({box: [left, top, right, bottom], ...rest}) => ({
      box: [x(left), y(top), x(right), y(bottom)],
      ...rest,
    }));
    const inImage = ({box: [left, top, right, bottom]}) => left < right && top < bottom; // the others lie in the padding
    return {detections: detections.filter(inImage), networkMs};
  }

  /** The file's outputs by name, where the image lay in its input, and the time of the network alone. */
  async run(image) {
    const {pixels, place} = letterbox(image, this.imageSize, this.fit);
    const input = new Tensor(new this.pixelType(pixels), [1, ...this.imageSize, 3]);
    let outputs = {};
    try {
      const started = performance.now();
      outputs = await this.model.run({images: input});
      const networkMs = performance.now() - started;
      const values = Object.fromEntries(Object.entries(outputs).map(([name, each]) => [name, numbers(each)]));
      return {values, place, networkMs};
    } finally {
      for (const tensor of [input, ...Object.values(outputs)]) tensor.delete();
    }
  }

  /** Free the memory that the file took. */
  delete() {
    this.model.delete();
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
  return Array.from({length: count}, (_, i) => detection(i)).filter(({score}) => score > Math.fround(confidence));
}

/** A tensor's values: those of uint8, where 255 stands for 1, as 0..1. */
function numbers(tensor) {
  const values = tensor.toTypedArray();
  return values instanceof Uint8Array ? Float32Array.from(values, (value) => value / 255) : values.slice();
}

function clip(value, limit) {
  return Math.min(Math.max(value, 0), limit);
}
