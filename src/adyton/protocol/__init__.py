"""Every byte that crosses a trust boundary. No I/O."""
