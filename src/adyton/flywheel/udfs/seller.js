// The seller's code: an ad that review did not approve cannot win, and the highest bid does.

function scoreAd(adMetadata, bid, auctionConfig, trustedScoringSignals, browserSignals) {
  const known = trustedScoringSignals && trustedScoringSignals.renderUrl &&
    trustedScoringSignals.renderUrl[browserSignals.renderUrl];
  if (!known || known.approved !== true) {
    return { desirability: 0, rejectReason: 'disapproved-by-exchange' };
  }
  if (bid < auctionConfig.sellerSignals.floor) {
    return { desirability: 0, rejectReason: 'bid-below-auction-floor' };
  }
  return { desirability: bid };
}

function reportResult(auctionConfig, sellerReportingSignals) {
  sendReportTo('https://' + auctionConfig.sellerSignals.reportingHost + '/result?bid=' +
    encodeURIComponent(sellerReportingSignals.bid) + '&render=' +
    encodeURIComponent(sellerReportingSignals.renderUrl));
  return { sellerSaw: 'win' };
}
