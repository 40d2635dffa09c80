// The buyer's candidate selection, in the ad-retrieval service: filters first, then the k best by the part of the score
// that depends on the ad. CONFIG: {k}.
//
// An ad's stored embedding is [to_user, to_context, bias]; the query is [user.to_ad, context.to_ad, 1], so that one inner
// product is everything about the score that differs between ads.

function HandleRequest(executionMetadata, protectedSignals, deviceMetadata, contextualSignals, contextualAdIds) {
  const prepared = JSON.parse(protectedSignals);
  if (!prepared.user) {
    return [];
  }
  const signals = typeof contextualSignals === 'string' ? JSON.parse(contextualSignals) : contextualSignals;
  const query = [...prepared.user.toAd, ...signals.context.to_ad, 1];
  return contextualAdIds && contextualAdIds.length > 0
    ? named(contextualAdIds, query)
    : nearest(query, signals.country);
}

function nearest(query, country) {
  return runTopK(query, { filter: { country }, k: CONFIG.k }).map((match) => candidate(match.ad, match.score));
}

// Ads that the buyer named in its contextual response; those of other buyers are not in this store.
function named(adIds, query) {
  const pairs = JSON.parse(getValues(adIds)).kvPairs;
  const candidates = [];
  for (const id of adIds) {
    if (pairs[id] && pairs[id].value !== undefined) {
      const ad = JSON.parse(pairs[id].value);
      candidates.push(candidate(ad, dot(query, ad.embedding)));
    }
  }
  return candidates;
}

function candidate(ad, score) {
  return { ad_id: ad.ad_id, render_url: ad.render_url, value_micros: ad.value_micros, score };
}

function dot(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i += 1) {
    sum += a[i] * b[i];
  }
  return sum;
}
