const DESCRIPTION = 3; // which field of the model's table it is

/**
 * What a .tflite tells of itself, as JSON in the model's description: `class_names` and `fit`.
 *
 * A table of a flatbuffer begins with the distance back to its vtable, which holds its own size, the table's, and the
 * place of each field in 2 bytes each, 0 for one that is missing: https://flatbuffers.dev/internals
 *
 * @param {Uint8Array} file
 * @returns {{classNames: string[], fit: string} | undefined} undefined where kyolo did not write it
 */
export function description(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  const table = view.getUint32(0, true);
  const vtable = table - view.getInt32(table, true);
  const entry = 4 + 2 * DESCRIPTION;
  const field = entry < view.getUint16(vtable, true) ? view.getUint16(vtable + entry, true) : 0;
  if (field === 0) return undefined;
  const text = table + field + view.getUint32(table + field, true);
  const bytes = file.subarray(text + 4, text + 4 + view.getUint32(text, true));
  return parsed(new TextDecoder().decode(bytes));
}

function parsed(text) {
  let about;
  try {
    about = JSON.parse(text);
  } catch (error) {
    if (error instanceof SyntaxError) return undefined; // another program's description
    throw error;
  }
  const {class_names: classNames, fit} = about ?? {};
  const isText = (value) => typeof value === 'string';
  return Array.isArray(classNames) && [fit, ...classNames].every(isText) ? {classNames, fit} : undefined;
}
