package dev.sluice.template;

/// Python's `None`.
enum None {
  NONE
}
