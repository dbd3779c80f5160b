// Uses the page of examples/web as a person would, in headless Chromium, and prints what it showed as JSON.
//
//   node tests/web/drive.mjs '{"url": ..., "model": ..., "image": ...,
//       "confidence": 0.25, "threads": 2, "screenshots": FOLDER, "camera": true, "runs": 50}'
//
// All but `url` may be left out: a step without its value is not taken.
import {createRequire} from 'node:module';

const {chromium} = createRequire(new URL('../../examples/web/package.json', import.meta.url))('playwright-core');
const {url, model, image, confidence, threads, screenshots, camera, runs} = JSON.parse(process.argv[2]);
const WIDTHS = [390, 1280];
const RUNTIME = /^(INFO|WARNING): /; // what LiteRT.js says of itself goes to the console as errors

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
  args: ['--no-sandbox', '--use-fake-ui-for-media-stream', '--use-fake-device-for-media-stream'],
});
const page = await browser.newPage({viewport: {width: 1280, height: 900}});
const shown = {console: []};
page.on('console', (message) => message.type() === 'error' && !RUNTIME.test(message.text()) && shown.console.push(message.text()));
page.on('pageerror', (error) => shown.console.push(error.message));

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
      shown.overflow[width] = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    }
  }
  if (camera) {
    shown.camera = [];
    await page.click('#camera');
    for (let frame = 0; frame < 3; frame++) {
      const before = await text('status');
      await page.waitForFunction((old) => document.getElementById('status').textContent !== old, before, {timeout: 60000});
      shown.camera.push(await text('status'));
    }
    shown.view = await page.locator('#view').evaluate(({width, height}) => [width, height]);
    await page.click('#camera');
    await page.getByText('Start camera').waitFor();
  }
  if (runs) {
    shown.network_ms = await page.evaluate(async ([address, count]) => {
      const {Detector} = await import('./detector.js');
      const file = new Uint8Array(await (await fetch(address)).arrayBuffer());
      const times = {};
      for (const threads of new Set([1, navigator.hardwareConcurrency])) {
        const detector = await Detector.load(file, {threads});
        const [height, width] = detector.imageSize;
        const picture = new OffscreenCanvas(width, height);
        picture.getContext('2d').fillRect(0, 0, width / 2, height / 2);
        times[threads] = [];
        for (let run = 0; run < count; run++) {
          times[threads].push((await detector.detect(picture, {width, height})).networkMs);
        }
        detector.delete();
      }
      return times;
    }, ['model.tflite', runs]);
  }
  console.log(JSON.stringify(shown));
} finally {
  await browser.close();
}
