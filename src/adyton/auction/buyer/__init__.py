"""The buyer: front end rules, bidding and egress fields."""
