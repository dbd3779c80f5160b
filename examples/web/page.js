// The page: what a user chooses, one frame after the other, and what is drawn.
import {Detector} from './detector.js';

const [model, image, camera, confidence, confidenceValue, threads, about, status, error, view, rows] = [
  'model', 'image', 'camera', 'confidence', 'confidence-value', 'threads', 'about', 'status', 'error', 'view', 'detections',
].map((id) => document.getElementById(id));

let file; // bytes of the detector
let detector;
let source; // {element, width, height}: a bitmap, or the camera's video
let pending = Promise.resolve(); // the last of what was asked for: one thing happens at a time

/** Do something after what was asked for before; an error is shown, and the page goes on. */
function next(task) {
  pending = pending.then(async () => {
    try {
      error.textContent = '';
      await task();
    } catch (reason) {
      error.textContent = reason.message ?? String(reason);
    }
  });
  return pending;
}

async function loadDetector() {
  status.textContent = 'Loading the detector …';
  try {
    const loaded = await Detector.load(file, {threads: threads.valueAsNumber || 1});
    detector?.delete();
    detector = loaded;
  } finally {
    status.textContent = detector ? 'Choose an image, or start the camera.' : 'Choose a detector.';
  }
  threads.value = detector.threads;
  const [height, width] = detector.imageSize;
  const names = detector.classNames.length ? detector.classNames.join(', ') : 'classes without names';
  about.textContent = `${width} x ${height} pixels, ${detector.fit}: ${names}`;
  await detect();
}

async function detect() {
  if (!detector || !source) return;
  const started = performance.now();
  const {detections, networkMs} = await detector.detect(source.element, source, {confidence: confidence.valueAsNumber});
  draw(detections);
  const frameMs = performance.now() - started;
  status.textContent = `${networkMs.toFixed(1)} ms the network, ${frameMs.toFixed(1)} ms the frame, ` +
    `${detector.threads} ${detector.threads === 1 ? 'thread' : 'threads'}, ${detections.length} objects`;
}

function draw(detections) {
  const {element, width, height} = source;
  view.width = width;
  view.height = height;
  const context = view.getContext('2d');
  context.drawImage(element, 0, 0, width, height);
  const unit = Math.max(width, height) / 320;
  context.lineWidth = unit;
  context.font = `${6 * unit}px system-ui, sans-serif`;
  context.textBaseline = 'bottom';
  for (const {box: [left, top, right, bottom], label} of detections) {
    context.strokeStyle = colour(label);
    context.strokeRect(left, top, right - left, bottom - top);
  }
  for (const {box: [left, top], score, label} of detections.toReversed()) { // the best on top
    const text = `${name(label)} ${score.toFixed(2)}`;
    const line = Math.max(top, 8 * unit);
    context.fillStyle = colour(label);
    context.fillRect(left, line - 8 * unit, context.measureText(text).width + 2 * unit, 8 * unit);
    context.fillStyle = 'white';
    context.fillText(text, left + unit, line);
  }
  rows.replaceChildren(...detections.map(({box, score, label}) => {
    const row = document.createElement('tr');
    for (const text of [name(label), score.toFixed(3), ...box.map((side) => side.toFixed(1))]) {
      row.insertCell().textContent = text;
    }
    return row;
  }));
}

function name(label) {
  return detector.classNames[label] ?? `class ${label}`;
}

function colour(label) {
  return `hsl(${(label * 137.5) % 360} 90% 35%)`; // the golden angle: neighbours differ most
}

async function openImage(blob) {
  stopCamera();
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: 'none'}).catch((reason) => {
    throw new Error(`${blob.name}: expected an image that this browser reads: ${reason.message}`);
  });
  source = {element: bitmap, width: bitmap.width, height: bitmap.height};
  await detect();
}

async function startCamera() {
  const video = document.createElement('video');
  video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
  video.playsInline = true;
  await video.play();
  source = {element: video, width: video.videoWidth, height: video.videoHeight};
  camera.textContent = 'Stop camera';
  const frame = () => next(async () => {
    if (source?.element !== video) return;
    await detect();
    requestAnimationFrame(frame);
  });
  frame();
}

function stopCamera() {
  source?.element.srcObject?.getTracks().forEach((track) => track.stop());
  camera.textContent = 'Start camera';
  source = undefined;
}

async function bytes(response) {
  if (!response.ok) throw new Error(`${response.url}: expected a file, received ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

model.addEventListener('change', () => next(async () => {
  if (!model.files.length) return;
  file = new Uint8Array(await model.files[0].arrayBuffer());
  await loadDetector();
}));
image.addEventListener('change', () => image.files.length && next(() => openImage(image.files[0])));
camera.addEventListener('click', () => next(async () => (source?.element.srcObject ? stopCamera() : startCamera())));
confidence.addEventListener('input', () => {
  confidenceValue.textContent = confidence.valueAsNumber.toFixed(2);
  next(detect);
});
threads.addEventListener('change', () => file && next(loadDetector));

threads.max = crossOriginIsolated ? navigator.hardwareConcurrency : 1;
const query = new URLSearchParams(location.search);
threads.value = query.get('threads') ?? Math.min(threads.max, 4);
if (query.has('model')) {
  next(async () => {
    file = await bytes(await fetch(query.get('model')));
    await loadDetector();
  });
}
