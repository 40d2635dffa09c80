// A buyer's bidding code for trying the stack out. The device's payload is a list of byte-sized interests.

function prepareDataForAdRetrieval(encodedSignals, encodedVersion, sellerAuctionSignals, contextualSignals) {
  const interests = [0, 0, 0, 0];
  for (const byte of encodedSignals) {
    interests[byte % interests.length] += 1;
  }
  return { interests, country: contextualSignals.country };
}

function generateBid(ads, sellerAuctionSignals, buyerSignals, prepared, signals, version, multiBidLimit) {
  return ads.slice(0, multiBidLimit).map((ad, rank) => ({
    ad: { id: ad.id },
    bid: ad.price,
    render: ad.url,
    bidCurrency: 'USD',
    egressPayload: JSON.stringify({
      features: [{ name: 'unsigned-integer-feature', value: Math.min(rank, 7) }],
    }),
  }));
}
