// Runs on the device, hourly. Turns one buyer's stored signals into the model's user fields, two bytes each, least
// significant byte first, in the model's own order. CONFIG is put before this text when the encoder is published.
//
//   key [1, slot, 0, 0]    one profile value as UTF-8 text
//   key [2, series, 0, 0]  a time series of events, two bytes each, one bit for each thing that happened
//
// CONFIG.fields, each with an `index` rule of the model's manifest, {values: {text: index}} or {edges: [...]}, and a source:
//   {slot}                              a profile value
//   {series, bit, measure: 'count'}     how many events have this bit; all of them if bit is null
//   {series, bit, measure: 'rate', prior, strength}    their share, smoothed
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
      events.set(key[1], entries.map((entry) => entry.signal_value[0] | (entry.signal_value[1] << 8)));
    }
  }
  const results = new Uint8Array(2 * CONFIG.fields.length);
  if (results.length > maxSize) {
    return { status: 1, results: new Uint8Array(0) };
  }
  CONFIG.fields.forEach((field, position) => {
    const raw = 'slot' in field ? profile.get(field.slot) : summarise(field, events.get(field.series) ?? []);
    const index = 'values' in field ? categoryIndex(field.values, raw) : bucketIndex(field.edges, raw);
    results[2 * position] = index & 0xff;
    results[2 * position + 1] = index >> 8;
  });
  return { status: 0, results };
}

function summarise(field, series) {
  const happened = field.bit === null ? series.length : series.filter((bits) => bits & (1 << field.bit)).length;
  return field.measure === 'count'
    ? happened
    : (happened + field.prior * field.strength) / (series.length + field.strength);
}

function categoryIndex(values, raw) {
  return raw !== undefined && Object.hasOwn(values, raw) ? values[raw] : 0;
}

// 1 + the number of edges that are not above the value.
function bucketIndex(edges, raw) {
  if (raw === undefined) {
    return 0;
  }
  const value = Number(raw);
  let bucket = 1;
  while (bucket <= edges.length && edges[bucket - 1] <= value) {
    bucket += 1;
  }
  return bucket;
}

function decodeText(bytes) {
  let escaped = '';
  for (const byte of bytes) {
    escaped += '%' + byte.toString(16).padStart(2, '0');
  }
  return decodeURIComponent(escaped);
}
