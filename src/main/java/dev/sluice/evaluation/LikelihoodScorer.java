package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.decoder.DecoderConfig;
import dev.sluice.probe.Probe;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import dev.sluice.tensor.Scope;
import dev.sluice.tensor.Tensor;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.function.IntPredicate;
import org.jspecify.annotations.Nullable;

/// How likely a model finds given tokens after others: Σ ln p, and whether each was the likeliest.
///
/// What requests share at the start is computed once ([PrefixTree]), from states that are kept,
/// where that costs less than computing it again. Logits are computed where a token is scored, and
/// nowhere else.
///
/// Only sequences of one length go through the model together. Products are compiled for each
/// number of rows, so that there are few lengths: the ends of sequences are filled up with tokens
/// that nothing sees. And a score does not depend on what else is in its batch: attention works on
/// each sequence by itself, and a product gives a row the same bits with any number of rows but
/// one, as measured with oneDNN; no product has one row here, as lengths are even. Of a mixture of
/// experts this does not hold: how many rows an expert gets is the batch's doing.
public final class LikelihoodScorer {
  /// What a model says of a request.
  ///
  /// @param logLikelihood Σ ln p in nats
  /// @param greedy whether each target was the likeliest token at its place
  public record Likelihood(double logLikelihood, boolean greedy) {}

  /// Takes scores as they come, in any order.
  @FunctionalInterface
  public interface Listener {
    /// @param request its index
    /// @param tokens how many went through the model since the last score
    void scored(int request, Likelihood likelihood, long tokens);
  }

  /// Tokens that go through the model at a time, in several sequences.
  private static final int MOST_TOKENS = 1 << 13;

  /// Logits that are there at a time: 64 MiB.
  private static final int MOST_LOGITS = 1 << 24;

  /// Multiplications that take as long as one layer takes to continue a kept state, about.
  private static final double KEEPING = 3e6;

  private static final int MOST_SHARED_AGAIN = 256;

  /// Lengths are multiples of it, from there on.
  private static final int GRAIN = 8;

  private final Decoder decoder;
  private final int batchSize;
  private final Probe probe;
  private final int leastShared;

  /// What no prefix of can be had once more tokens have passed.
  private final boolean recurrent;

  /// @param batchSize the most sequences that go through the model at a time
  public LikelihoodScorer(Decoder decoder, int batchSize) {
    this(decoder, batchSize, Probe.NONE);
  }

  /// @param probe of every pass
  LikelihoodScorer(Decoder decoder, int batchSize, Probe probe) {
    this(decoder, batchSize, probe, leastShared(decoder.config()));
  }

  /// @param leastShared fewer shared tokens are computed again rather than kept
  LikelihoodScorer(Decoder decoder, int batchSize, Probe probe, int leastShared) {
    if (batchSize < 1) {
      throw new InvalidInputException("batch size must be at least 1, not " + batchSize);
    }
    this.decoder = decoder;
    this.batchSize = batchSize;
    this.probe = probe;
    this.leastShared = leastShared;
    this.recurrent =
        decoder.config().layers().stream().anyMatch(layer -> layer.attention().isEmpty());
  }

  /// Scores all requests.
  public List<Likelihood> score(List<TokenRequest> requests) {
    var scores = new Likelihood[requests.size()];
    score(requests, _ -> true, (request, likelihood, _) -> scores[request] = likelihood);
    return List.of(scores);
  }

  /// Scores some of the requests, which get the same scores as if all were.
  public void score(List<TokenRequest> requests, IntPredicate wanted, Listener listener) {
    requests.forEach(
        request -> {
          requireInVocabulary(request.inputs());
          requireInVocabulary(request.targets());
        });
    // Of a large model a token costs more than what is compiled for one more length.
    boolean exact = leastShared <= GRAIN && !recurrent;
    var tree = new PrefixTree(requests, leastShared, exact ? 1 : GRAIN);
    int longest = requests.stream().mapToInt(each -> each.inputs().length).max().orElse(0);
    int capacity = 2 * longest + 2; // filled up
    int slots = Math.multiplyExact(tree.depth() + 2, batchSize + 1);
    try (var state = decoder.newState(slots, capacity);
        var _ = Scope.withoutGradient()) {
      new Pass(requests, wanted, listener, state).runAll(tree.roots());
    }
  }

  /// How many tokens a piece must have for keeping to cost less than computing it again.
  private static int leastShared(DecoderConfig config) {
    double head = (double) config.vocabSize() * config.hiddenSize();
    double perToken =
        Math.max(1, config.parameterCount() - (config.tieWordEmbeddings() ? 1 : 2) * head);
    return (int) Math.clamp(KEEPING * config.layers().size() / perToken, 1, MOST_SHARED_AGAIN);
  }

  /// The length to which the end of a sequence is filled up.
  private static int filled(int tokens) {
    if (tokens <= GRAIN) {
      return Math.max(2, Integer.highestOneBit(2 * tokens - 1));
    }
    int grain = tokens <= 128 ? GRAIN : 2 * GRAIN;
    return Math.ceilDiv(tokens, grain) * grain;
  }

  private void requireInVocabulary(int[] ids) {
    decoder.config().requireInVocabulary(Arrays.stream(ids).asLongStream().toArray());
  }

  /// A sequence so far, to be continued by several.
  private static final class Kept {
    private final Slot slot;
    private final int tokens;
    private int users;

    /// @param tokens without those that it was filled up with
    Kept(Slot slot, int tokens, int users) {
      this.slot = slot;
      this.tokens = tokens;
      this.users = users;
    }
  }

  /// A piece that is to go through the model, after what its parent left.
  private record Piece(PrefixTree.Node node, @Nullable Kept parent) {
    boolean hasState() {
      return parent != null || !node.children().isEmpty();
    }

    /// What others continue is filled up where its own part can be had again.
    int length(boolean recurrent) {
      return recurrent && !node.children().isEmpty() ? node.tokens() : filled(node.tokens());
    }
  }

  private final class Pass {
    private final List<TokenRequest> requests;
    private final IntPredicate wanted;
    private final Listener listener;
    private final SequenceState state;
    private final double[] sums;
    private final boolean[] missed;
    private long tokens;

    Pass(List<TokenRequest> requests, IntPredicate wanted, Listener listener, SequenceState state) {
      this.requests = requests;
      this.wanted = wanted;
      this.listener = listener;
      this.state = state;
      this.sums = new double[requests.size()];
      this.missed = new boolean[requests.size()];
    }

    void runAll(List<PrefixTree.Node> roots) {
      run(wanted(roots).stream().map(node -> new Piece(node, null)).toList());
    }

    private List<PrefixTree.Node> wanted(List<PrefixTree.Node> nodes) {
      return nodes.stream()
          .filter(node -> Arrays.stream(node.requests()).anyMatch(wanted))
          .toList();
    }

    /// The longest first, so that what does not fit into memory fails at once.
    private void run(List<Piece> pieces) {
      var byKind = new TreeMap<Integer, List<Piece>>();
      for (var piece : pieces) {
        int kind = -2 * piece.length(recurrent) + (piece.hasState() ? 1 : 0);
        byKind.computeIfAbsent(kind, _ -> new ArrayList<>()).add(piece);
      }
      for (var alike : byKind.values()) {
        int length = alike.getFirst().length(recurrent);
        int most = Math.clamp(MOST_TOKENS / length, 1, batchSize);
        for (int begin = 0; begin < alike.size(); ) {
          int taken = Integer.highestOneBit(Math.min(most, alike.size() - begin));
          run(alike.subList(begin, begin + taken), length);
          begin += taken;
        }
      }
    }

    /// One pass, and then what follows each piece, so that few states are kept at a time.
    private void run(List<Piece> batch, int length) {
      boolean hasState = batch.getFirst().hasState();
      List<Slot> slots = new ArrayList<>();
      if (hasState) {
        batch.forEach(piece -> slots.add(slot(piece.parent())));
      }
      long[] ids = new long[batch.size() * length];
      for (int i = 0; i < batch.size(); i++) {
        var node = batch.get(i).node();
        int[] inputs = requests.get(node.requests()[0]).inputs();
        for (int t = 0; t < length; t++) {
          ids[i * length + t] = inputs[Math.min(node.from() + t, node.to() - 1)];
        }
      }
      try (var _ = Scope.withoutGradient()) {
        var hidden =
            decoder.hiddenStates(
                Tensor.of(ids, batch.size(), length).to(decoder.device()),
                hasState ? state.past(slots) : null,
                probe);
        batch.forEach(piece -> tokens += piece.node().tokens());
        score(batch, length, hidden.reshape(ids.length, hidden.size(-1)));
      }
      List<Piece> next = new ArrayList<>();
      for (int i = 0; i < batch.size(); i++) {
        var children = wanted(batch.get(i).node().children());
        if (!children.isEmpty()) {
          var kept = new Kept(slots.get(i), batch.get(i).node().to(), children.size());
          children.forEach(child -> next.add(new Piece(child, kept)));
        } else if (hasState) {
          state.release(slots.get(i));
        }
      }
      if (!next.isEmpty()) {
        run(next);
      }
    }

    /// A copy of the parent's state; the last who needs it has the state itself, if it is whole.
    private Slot slot(@Nullable Kept parent) {
      if (parent == null) {
        return state.take();
      }
      parent.users--;
      if (parent.users == 0 && parent.slot.length() == parent.tokens) {
        return parent.slot;
      }
      var copy = state.copyPrefix(parent.slot, parent.tokens);
      if (parent.users == 0) {
        state.release(parent.slot);
      }
      return copy;
    }

    /// A token that is scored.
    ///
    /// @param row of the hidden states after which it stands
    private record Target(int row, int request, int token) {}

    private void score(List<Piece> batch, int length, Tensor hiddenRows) {
      List<Target> targets = new ArrayList<>();
      List<Integer> ended = new ArrayList<>();
      for (int i = 0; i < batch.size(); i++) {
        var node = batch.get(i).node();
        for (int index : node.requests()) {
          if (!wanted.test(index)) {
            continue;
          }
          var request = requests.get(index);
          int end = Math.min(node.to(), request.inputs().length);
          for (int at = Math.max(node.from(), request.firstScored()); at < end; at++) {
            int row = i * length + at - node.from();
            targets.add(new Target(row, index, request.targets()[at - request.firstScored()]));
          }
          if (end == request.inputs().length) {
            ended.add(index);
          }
        }
      }
      addAll(targets, hiddenRows);
      for (int request : ended) {
        listener.scored(request, new Likelihood(sums[request], !missed[request]), tokens);
        tokens = 0;
      }
    }

    private void addAll(List<Target> targets, Tensor hiddenRows) {
      var distinct = new TreeSet<Integer>();
      targets.forEach(target -> distinct.add(target.row()));
      long[] rows = distinct.stream().mapToLong(Integer::longValue).toArray();
      int most = Math.max(2, MOST_LOGITS / decoder.config().vocabSize());
      for (int begin = 0; begin < rows.length; begin += most) {
        int end = Math.min(rows.length, begin + most);
        long first = rows[begin];
        long last = rows[end - 1];
        add(
            targets.stream().filter(t -> t.row() >= first && t.row() <= last).toList(),
            Arrays.copyOfRange(rows, begin, end),
            hiddenRows);
      }
    }

    private void add(List<Target> targets, long[] rows, Tensor hiddenRows) {
      long[] taken = Arrays.copyOf(rows, filled(rows.length));
      Arrays.fill(taken, rows.length, taken.length, rows[0]);
      try (var _ = Scope.withoutGradient()) {
        var chosen = hiddenRows.rows(Tensor.of(taken, taken.length).to(decoder.device()));
        var logits = decoder.logits(chosen);
        float[] logSums = logits.logSumExp(-1).floats();
        float[] all = logits.floats();
        int vocabulary = decoder.config().vocabSize();
        for (var target : targets) {
          int at = Arrays.binarySearch(rows, target.row());
          float logit = all[at * vocabulary + target.token()];
          sums[target.request()] += (double) logit - logSums[at];
          missed[target.request()] |= !isLikeliest(all, at * vocabulary, vocabulary, target);
        }
      }
    }

    private boolean isLikeliest(float[] logits, int from, int vocabulary, Target target) {
      float logit = logits[from + target.token()];
      for (int i = 0; i < vocabulary; i++) {
        if (logits[from + i] > logit || (logits[from + i] == logit && i < target.token())) {
          return false;
        }
      }
      return true;
    }
  }
}
