package dev.sluice.generation;

/// Restricts which tokens may come next in one text.
public interface Restriction {
  /// Any token may come.
  Restriction NONE =
      new Restriction() {
        @Override
        public void restrict(float[] logits) {}

        @Override
        public void chosen(int token) {}
      };

  /// Sets the logits of tokens that may not come next to −∞, in place.
  void restrict(float[] logits);

  /// Hears which token comes next, one that ends the text too.
  void chosen(int token);
}
