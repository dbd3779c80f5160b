// The page: what a user chooses, one frame after the other, and what is drawn.
import {Detector} from './detector.js';

const [model, image, camera, confidence, confidenceValue, threads, about, status, error, view, rows] = [
  'model', 'image', 'camera', 'confidence', 'confidence-value', 'threads', 'about', 'status', 'error', 'view', 'detections',
].map((id) => document.getElementById(id));
const frame = new OffscreenCanvas(1, 1); // the picture that is looked at, and then drawn

let detector;
let file; // its bytes
let source; // a bitmap, or the camera's video
let choices = 0; // of sources: an answer to an older one comes too late
let pending = Promise.resolve(); // the last of what is to be done: one thing happens at a time
let redrawing = false;

/** Do something after what was asked for before; an error is shown, and the page goes on. */
function next(task) {
  pending = pending.then(task).catch((reason) => {
    error.textContent = reason.message ?? String(reason);
  });
  return pending;
}

/** The same for what a user asks for: an older error is no longer of interest. */
function asked(task) {
  return next(() => {
    error.textContent = '';
    return task();
  });
}

async function loadDetector(bytes) {
  status.textContent = 'Loading the detector …';
  try {
    const loaded = await Detector.load(bytes, {threads: threads.valueAsNumber});
    detector?.delete();
    [detector, file] = [loaded, bytes];
    const [height, width] = detector.imageSize;
    const names = detector.classNames.length ? detector.classNames.join(', ') : 'classes without names';
    const fit = detector.described ? detector.fit : `${detector.fit} (the file does not tell)`;
    about.textContent = `${width} x ${height} pixels, ${fit}: ${names}`;
  } finally {
    if (detector) threads.value = detector.threads;
    status.textContent = detector ? 'Choose an image, or start the camera.' : 'Choose a detector.';
    await detect();
  }
}

async function detect() {
  if (!detector || !source) return;
  const started = performance.now();
  frame.width = source.videoWidth ?? source.width; // of a video it changes when a phone is turned
  frame.height = source.videoHeight ?? source.height;
  const context = frame.getContext('2d', {willReadFrequently: true});
  context.drawImage(source, 0, 0);
  const pixels = context.getImageData(0, 0, frame.width, frame.height);
  const {detections, networkMs} = await detector.detect(pixels, {confidence: confidence.valueAsNumber});
  draw(detections);
  const frameMs = performance.now() - started;
  status.textContent = `${networkMs.toFixed(1)} ms the network, ${frameMs.toFixed(1)} ms the frame, ` +
    `${detector.threads} ${detector.threads === 1 ? 'thread' : 'threads'}, ${detections.length} objects`;
}

function draw(detections) {
  view.width = frame.width;
  view.height = frame.height;
  const context = view.getContext('2d');
  context.drawImage(frame, 0, 0);
  const unit = Math.max(frame.width, frame.height) / 320;
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

/** Look at another source from now on; undefined for none. */
function show(other) {
  source?.close?.();
  source?.srcObject?.getTracks().forEach((track) => track.stop());
  source = other;
  camera.textContent = source?.srcObject ? 'Stop camera' : 'Start camera';
}

async function openImage(blob) {
  const bitmap = await createImageBitmap(blob, {colorSpaceConversion: 'none'}).catch((reason) => {
    throw new Error(`${blob.name}: expected an image that this browser reads: ${reason.message}`);
  });
  show(bitmap);
  await detect();
}

async function openCamera(stream) {
  const video = document.createElement('video');
  video.srcObject = stream;
  video.playsInline = true;
  show(video);
  stream.getVideoTracks()[0].addEventListener('ended', () => next(() => {
    if (source !== video) return;
    show(undefined);
    throw new Error('camera: expected more pictures, but it was taken away');
  }));
  const look = () => next(async () => {
    if (source !== video) return;
    try {
      await detect();
    } catch (reason) {
      show(undefined);
      throw reason;
    }
    requestAnimationFrame(look);
  });
  try {
    await video.play();
  } catch (reason) {
    show(undefined);
    throw reason;
  }
  look();
}

/** Ask for the camera beside the queue: whatever is chosen before the user answers comes first. */
async function askForCamera() {
  const choice = ++choices;
  error.textContent = '';
  try {
    if (!navigator.mediaDevices) throw new Error('expected a page from https or from this machine, as browsers want it');
    const stream = await navigator.mediaDevices.getUserMedia({video: {facingMode: 'environment'}});
    if (choice === choices) await next(() => openCamera(stream));
    else stream.getTracks().forEach((track) => track.stop());
  } catch (reason) {
    error.textContent = `camera: ${reason.message}`;
  }
}

async function bytes(response) {
  if (!response.ok) throw new Error(`${response.url}: expected a file, received ${response.status} ${response.statusText}`);
  return new Uint8Array(await response.arrayBuffer());
}

model.addEventListener('change', () => {
  if (model.files.length) asked(async () => loadDetector(new Uint8Array(await model.files[0].arrayBuffer())));
});
image.addEventListener('change', () => {
  if (!image.files.length) return;
  choices++;
  asked(() => openImage(image.files[0]));
});
camera.addEventListener('click', () => (source?.srcObject ? asked(() => show(undefined)) : askForCamera()));
confidence.addEventListener('input', () => {
  confidenceValue.textContent = confidence.valueAsNumber.toFixed(2);
  if (redrawing) return; // what is queued takes the newest value
  redrawing = true;
  next(() => {
    redrawing = false;
    return detect();
  });
});
threads.addEventListener('change', () => file && asked(() => loadDetector(file)));

threads.max = crossOriginIsolated ? navigator.hardwareConcurrency : 1;
threads.value = Math.min(threads.max, 4);
const address = new URLSearchParams(location.search).get('model');
if (address) asked(async () => loadDetector(await bytes(await fetch(address))));
