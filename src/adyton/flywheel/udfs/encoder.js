// Runs on the device, hourly. Turns one buyer's stored signals into the model's user fields, two bytes each, least
// significant byte first, in the model's own order. CONFIG is put before this text when the encoder is published.
//
//   key [1, slot, 0, 0]    one profile value as UTF-8 text
//   key [2, series, 0, 0]  a time series of events, one byte each, one bit for each thing that happened
//
// CONFIG.fields: {slot, vocabulary: {text: index}} or {series, bit, measure: "count" | "rate", prior, edges}.
// Index 0 means unknown.

const PROFILE = 1;
const EVENTS = 2;

function encodeSignals(signals, maxSize) {
  const profile = new Map();
  const events = new Map();
  for (const [key, entries] of signals) {
    if (key[0] === PROFILE) {
      profile.set(key[1], decodeText(entries[entries.length - 1].signal_value));
    } else if (key[0] === EVENTS) {
      events.set(key[1], entries.map((entry) => entry.signal_value[0]));
    }
  }
  const results = new Uint8Array(2 * CONFIG.fields.length);
  if (results.length > maxSize) {
    return { status: 1, results: new Uint8Array(0) };
  }
  CONFIG.fields.forEach((field, position) => {
    const index = 'slot' in field ? categoryIndex(field, profile.get(field.slot)) : bucketIndex(field, events);
    results[2 * position] = index & 0xff;
    results[2 * position + 1] = index >> 8;
  });
  return { status: 0, results };
}

function categoryIndex(field, text) {
  return text !== undefined && Object.hasOwn(field.vocabulary, text) ? field.vocabulary[text] : 0;
}

// Bucket i holds values v with edges[i-2] <= v < edges[i-1]; buckets start at 1.
function bucketIndex(field, events) {
  const series = events.get(field.series) ?? [];
  const happened = field.bit === null ? series.length : series.filter((byte) => byte & (1 << field.bit)).length;
  const value = field.measure === 'count'
    ? happened
    : (happened + field.prior * field.priorWeight) / (series.length + field.priorWeight);
  let bucket = 1;
  while (bucket <= field.edges.length && value >= field.edges[bucket - 1]) {
    bucket += 1;
  }
  return bucket;
}

// Values are ASCII or short UTF-8; the sandbox has no TextDecoder to rely on.
function decodeText(bytes) {
  let escaped = '';
  for (const byte of bytes) {
    escaped += '%' + byte.toString(16).padStart(2, '0');
  }
  return decodeURIComponent(escaped);
}
