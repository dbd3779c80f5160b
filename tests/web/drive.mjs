// Uses the page of examples/web as a person would, in headless Chromium, and prints what it showed as JSON.
//
//   node tests/web/drive.mjs '{"url": ..., "model": ..., "image": ...,
//       "confidence": 0.25, "threads": 2, "screenshots": FOLDER, "camera": "use", "runs": 50}'
//
// All but `url` may be left out: a step without its value is not taken. Steps:
//   model, image: files that are chosen; confidence, threads: what is set; screenshots: a folder for pictures at two widths;
//   camera: "use": it is started, looked at and stopped; "refuse": the user does not allow it;
//   wrong: a file that is chosen as a detector while the camera runs; runs: times that the network is timed.
import {createRequire} from 'node:module';

const {chromium} = createRequire(new URL('../../examples/web/package.json', import.meta.url))('playwright-core');
const {url, model, image, confidence, threads, screenshots, camera, wrong, runs} = JSON.parse(process.argv[2]);
const WIDTHS = [390, 1280];
const RUNTIME = /^(INFO|WARNING): /; // what LiteRT.js says of itself goes to the console as errors

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: [
    '--no-sandbox',
    '--use-fake-device-for-media-stream',
    ...(camera === 'refuse' ? [] : ['--use-fake-ui-for-media-stream']),
  ],
});
const page = await browser.newPage({viewport: {width: 1280, height: 900}});
const shown = {console: []};
page.on('console', (message) => message.type() === 'error' && !RUNTIME.test(message.text()) && shown.console.push(message.text()));
page.on('pageerror', (error) => shown.console.push(error.message));

await page.addInitScript(() => {
  globalThis.tracks = [];
  const ask = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wanted) => {
    const stream = await ask(wanted);
    tracks.push(...stream.getTracks());
    return stream;
  };
});

const text = (id) => page.locator(`#${id}`).textContent();
/** Wait until a frame was timed, or an error is shown. */
const settled = () => page.waitForFunction(() => {
  const [status, error] = ['status', 'error'].map((id) => document.getElementById(id).textContent);
  return error || (status.includes(' ms ') && status);
}, null, {timeout: 60000});

try {
  await page.goto(url);
  if (model) await page.setInputFiles('#model', model);
  await page.waitForFunction(() => document.getElementById('about').textContent || document.getElementById('error').textContent);
  if (confidence) {
    await page.locator('#confidence').fill(String(confidence));
  }
  if (threads) {
    await page.locator('#threads').fill(String(threads));
    await page.locator('#threads').blur();
  }
  if (image) {
    await page.setInputFiles('#image', image);
    await settled();
    shown.detections = await page.locator('#detections tr').evaluateAll(
      (rows) => rows.map((row) => [...row.cells].map((cell) => cell.textContent)));
  }
  Object.assign(shown, {about: await text('about'), status: await text('status'), error: await text('error')});
  if (screenshots) {
    shown.overflow = {};
    for (const width of WIDTHS) {
      await page.setViewportSize({width, height: 900});
      await page.screenshot({path: `${screenshots}/${width}.png`, fullPage: true});
      shown.overflow[width] = await page.evaluate(() => {
        const table = document.querySelector('.scroll');
        return [document.documentElement.scrollWidth - innerWidth, table.scrollWidth - table.clientWidth];
      });
    }
  }
  if (camera === 'use') {
    shown.camera = [];
    await page.click('#camera');
    for (let frame = 0; frame < 3; frame++) {
      const before = await text('status');
      await page.waitForFunction((old) => document.getElementById('status').textContent !== old, before, {timeout: 60000});
      shown.camera.push(await text('status'));
    }
    if (wrong) {
      await page.setInputFiles('#model', wrong);
      await page.waitForFunction(() => document.getElementById('error').textContent);
      await page.waitForTimeout(500); // frames go on
    }
    shown.view = await page.locator('#view').evaluate(({width, height}) => [width, height]);
    shown.error = await text('error');
    await page.click('#camera');
    await page.getByText('Start camera').waitFor();
    shown.tracks = await page.evaluate(() => tracks.map((track) => track.readyState));
  }
  if (camera === 'refuse') {
    await page.click('#camera');
    await page.waitForFunction(() => document.getElementById('error').textContent);
    shown.error = await text('error');
    shown.button = await text('camera');
  }
  if (runs) {
    shown.network_ms = await page.evaluate(async ([address, count]) => {
      const {Detector} = await import('./detector.js');
      const file = new Uint8Array(await (await fetch(address)).arrayBuffer());
      const times = {};
      for (const threads of new Set([1, navigator.hardwareConcurrency])) {
        const detector = await Detector.load(file, {threads});
        const [height, width] = detector.imageSize;
        const picture = new ImageData(width, height);
        times[threads] = [];
        for (let run = 0; run < count; run++) times[threads].push((await detector.detect(picture)).networkMs);
        detector.delete();
      }
      return times;
    }, ['model.tflite', runs]);
  }
  console.log(JSON.stringify(shown));
} finally {
  await browser.close();
}
