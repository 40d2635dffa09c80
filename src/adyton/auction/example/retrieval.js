// Candidate selection: the ads nearest to the interests, among those that may run in the country.

function HandleRequest(executionMetadata, protectedSignals, deviceMetadata, contextualSignals, contextualAdIds) {
  const prepared = JSON.parse(protectedSignals);
  const filter = prepared.country ? { country: prepared.country } : {};
  return runTopK(prepared.interests, { filter, k: 5 })
    .map(({ key, ad }) => ({ id: key, url: ad.url, price: ad.price }));
}
