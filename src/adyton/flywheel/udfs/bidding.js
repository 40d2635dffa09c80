// The buyer's half of the auction, in the bidding service. CONFIG is put before this text when the code is published:
// {modelPath, fieldCount, egress: {positions, code} or null, currency, unitMicros}.

function unpackFields(bytes) {
  const fields = [];
  for (let i = 0; i + 1 < bytes.length; i += 2) {
    fields.push(bytes[i] | (bytes[i + 1] << 8));
  }
  return fields.length === CONFIG.fieldCount ? fields : null;
}

// The private part of the factorised model: only this touches the user's fields.
function runUserTower(fields) {
  const request = {
    request: [{
      model_path: CONFIG.modelPath,
      tensors: [{
        tensor_name: 'user_fields',
        data_type: 'INT64',
        tensor_shape: [1, fields.length],
        tensor_content: fields.map(String),
      }],
    }],
  };
  const reply = JSON.parse(runInference(JSON.stringify(request))).response[0];
  if (reply.error) {
    throw new Error(reply.error.error_type);
  }
  const outputs = {};
  for (const tensor of reply.tensors) {
    outputs[tensor.tensor_name] = tensor.tensor_content;
  }
  return { toAd: outputs.to_ad, toContext: outputs.to_context, bias: outputs.bias[0] };
}

function prepareDataForAdRetrieval(encodedSignals, encodedVersion, sellerAuctionSignals, contextualSignals) {
  const fields = unpackFields(encodedSignals);
  if (fields === null) {
    return { user: null };
  }
  return { user: runUserTower(fields), fields, country: contextualSignals.country };
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) {
    sum += a[i] * b[i];
  }
  return sum;
}

// The learned code of the user (learning/egress/user_code.py): a propensity by boosted trees, further numbers along
// directions of the user's vector, each cut at its edges.
function payloadOf(fields) {
  const { propensity: trees, first, v, directions, edges } = CONFIG.egress.code;
  const codes = CONFIG.egress.positions.map((position) => fields[position]);
  let grown = 0;
  for (const root of trees.roots) {
    let node = root;
    while (trees.feature[node] >= 0) {
      node = codes[trees.feature[node]] <= trees.threshold[node] ? trees.left[node] : trees.right[node];
    }
    grown += trees.value[node];
  }
  const vector = directions.map((_, d) => codes.reduce((sum, code, f) => sum + v[first[f] + code][d], 0));
  const numberOf = (which) => (which === 0
    ? trees.base + grown
    : vector.reduce((sum, x, d) => sum + x * directions[d][which - 1], 0));
  return {
    features: edges.map(({ number, edges: cuts }) => {
      const found = numberOf(number);
      return { name: 'unsigned-integer-feature', value: cuts.filter((cut) => cut < found).length };
    }),
  };
}

// The public parts (ad and context vectors) meet the private one here; the bid is the expected value of the click.
function generateBid(ads, sellerAuctionSignals, buyerSignals, prepared) {
  if (!prepared || !prepared.user || !Array.isArray(ads) || ads.length === 0) {
    return { bid: 0 };
  }
  const context = buyerSignals.context;
  const shared = prepared.user.bias + context.bias + dot(prepared.user.toContext, context.to_user);
  let best = null;
  for (const ad of ads) {
    const clickRate = 1 / (1 + Math.exp(-(shared + ad.score)));
    const bid = (clickRate * ad.value_micros) / CONFIG.unitMicros;
    if (best === null || bid > best.bid) {
      best = { ad, bid, clickRate };
    }
  }
  const reply = {
    ad: { ad_id: best.ad.ad_id },
    bid: best.bid,
    render: best.ad.render_url,
    bidCurrency: CONFIG.currency,
  };
  if (CONFIG.egress !== null) {
    reply.egressPayload = JSON.stringify(payloadOf(prepared.fields));
  }
  return reply;
}
