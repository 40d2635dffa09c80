// The seller's code: the highest bid above the floor wins.

function scoreAd(adMetadata, bid, auctionConfig, trustedScoringSignals, browserSignals) {
  const floor = auctionConfig.sellerSignals.floor || 0;
  return bid < floor ? { desirability: 0, rejectReason: 'bid-below-auction-floor' } : { desirability: bid };
}

function reportResult(auctionConfig, sellerReportingSignals) {
  sendReportTo('https://seller.example/result?bid=' + encodeURIComponent(sellerReportingSignals.bid));
  return {};
}
