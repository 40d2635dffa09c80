"""Our own protobuf definitions of the messages of protected-auction §6, §9 and §10, and what is generated from them."""
