// The buyer's win report: the noised egress payload travels to the buyer's collector, and nothing about the user does.

function reportWin(auctionSignals, perBuyerSignals, signalsForWinner, buyerReportingSignals, directFromSellerSignals,
                   egressPayload, temporaryUnlimitedEgressPayload) {
  const query = [
    'request=' + encodeURIComponent(perBuyerSignals.request),
    'render=' + encodeURIComponent(buyerReportingSignals.renderUrl),
    'bid=' + encodeURIComponent(buyerReportingSignals.bid),
    'egress=' + encodeURIComponent(egressPayload),
  ].join('&');
  sendReportTo('https://' + buyerReportingSignals.interestGroupOwner + '/win?' + query);
  registerAdBeacon({
    click: 'https://' + buyerReportingSignals.interestGroupOwner + '/click?request=' +
      encodeURIComponent(perBuyerSignals.request),
  });
}
