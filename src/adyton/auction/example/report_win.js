// The buyer's win report: the noised egress payload, and nothing else about the user.

function reportWin(auctionSignals, perBuyerSignals, signalsForWinner, buyerReportingSignals, directFromSellerSignals,
                   egressPayload) {
  sendReportTo('https://' + buyerReportingSignals.interestGroupOwner + '/win?egress=' +
    encodeURIComponent(egressPayload) + '&bid=' + encodeURIComponent(buyerReportingSignals.bid) +
    '&render=' + encodeURIComponent(buyerReportingSignals.renderUrl));
}
