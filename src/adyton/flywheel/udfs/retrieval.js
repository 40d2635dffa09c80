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
  const context = JSON.parse(contextualSignals).context;
  const query = [...prepared.user.toAd, ...context.to_ad, 1];
  const filter = contextualAdIds && contextualAdIds.length > 0
    ? { ad_id: contextualAdIds }
    : { country: [prepared.country] };
  const found = JSON.parse(runTopK(JSON.stringify({ queryVector: query, filter, k: CONFIG.k })));
  return found.matches.map((match) => {
    const ad = JSON.parse(match.value);
    return { ad_id: ad.ad_id, render_url: ad.render_url, value_micros: ad.value_micros, score: match.score };
  });
}
