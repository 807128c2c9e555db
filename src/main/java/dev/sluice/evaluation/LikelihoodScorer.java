package dev.sluice.evaluation;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
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
/// What requests share at the start is computed once ([PrefixTree]), from states that are kept.
/// Only sequences of one length go through the model together, so that nothing is padded. Logits
/// are computed where a token is scored, and nowhere else.
///
/// A score does not depend on what else is in its batch. Attention works on each sequence by
/// itself; products give a row the same bits with any number of rows but one, as measured with
/// oneDNN, so that no product has one row (see [#alone] and [#spare]). Of a mixture of experts this
/// does not hold: how many rows an expert gets is the batch's doing.
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

  /// From this length on a sequence keeps the processor busy by itself.
  private static final int LONG = 64;

  private final Decoder decoder;
  private final int batchSize;

  /// @param batchSize the most sequences that go through the model at a time
  public LikelihoodScorer(Decoder decoder, int batchSize) {
    if (batchSize < 1) {
      throw new InvalidInputException("batch size must be at least 1, not " + batchSize);
    }
    this.decoder = decoder;
    this.batchSize = batchSize;
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
    var tree = new PrefixTree(requests);
    int capacity = requests.stream().mapToInt(each -> each.inputs().length).max().orElse(0);
    int slots = Math.multiplyExact(tree.depth() + 1, batchSize + 1);
    try (var state = new SequenceState(slots, capacity);
        var _ = Scope.withoutGradient()) {
      new Pass(requests, wanted, listener, state).runAll(tree.roots());
    }
  }

  private void requireInVocabulary(int[] ids) {
    decoder.config().requireInVocabulary(Arrays.stream(ids).asLongStream().toArray());
  }

  /// A sequence so far, to be continued by several.
  private static final class Kept {
    private final Slot slot;
    private int users;

    Kept(Slot slot, int users) {
      this.slot = slot;
      this.users = users;
    }
  }

  /// A piece that is to go through the model, after what its parent left.
  private record Piece(PrefixTree.Node node, @Nullable Kept parent) {
    boolean hasState() {
      return parent != null || !node.children().isEmpty();
    }
  }

  /// Whether sequences of this length go through the model one by one. The feed-forward layer works
  /// on pieces of 2ⁿ rows, so that the last of an odd number of rows is one by itself.
  private static boolean alone(int tokens) {
    return tokens >= LONG && tokens % 2 == 1;
  }

  /// Whether a batch needs one more sequence, so that its rows are even in number.
  private static boolean spare(int sequences, int tokens) {
    return !alone(tokens) && sequences * tokens % 2 == 1;
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
        int kind = -2 * piece.node().tokens() + (piece.hasState() ? 1 : 0);
        byKind.computeIfAbsent(kind, _ -> new ArrayList<>()).add(piece);
      }
      for (var alike : byKind.values()) {
        int length = alike.getFirst().node().tokens();
        int most = alone(length) ? 1 : Math.clamp(MOST_TOKENS / length, 1, batchSize);
        for (int begin = 0; begin < alike.size(); begin += most) {
          run(alike.subList(begin, Math.min(alike.size(), begin + most)), length);
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
      int rows = batch.size();
      Slot spare = null;
      if (spare(rows, length)) {
        rows++;
        if (hasState) {
          spare = state.copyPrefix(slots.getLast(), slots.getLast().length());
          slots.add(spare);
        }
      }
      long[] ids = new long[rows * length];
      for (int row = 0; row < rows; row++) {
        var node = batch.get(Math.min(row, batch.size() - 1)).node();
        int[] inputs = requests.get(node.requests()[0]).inputs();
        for (int i = 0; i < length; i++) {
          ids[row * length + i] = inputs[node.from() + i];
        }
      }
      try (var _ = Scope.withoutGradient()) {
        var hidden =
            decoder.hiddenStates(
                Tensor.of(ids, rows, length).to(decoder.device()),
                hasState ? state.past(slots) : null,
                Probe.NONE);
        tokens += (long) batch.size() * length;
        score(batch, length, hidden.reshape((long) rows * length, hidden.size(-1)));
      }
      if (spare != null) {
        state.release(spare);
      }
      List<Piece> next = new ArrayList<>();
      for (int i = 0; i < batch.size(); i++) {
        var children = wanted(batch.get(i).node().children());
        if (!children.isEmpty()) {
          var kept = new Kept(slots.get(i), children.size());
          children.forEach(child -> next.add(new Piece(child, kept)));
        } else if (hasState) {
          state.release(slots.get(i));
        }
      }
      if (!next.isEmpty()) {
        run(next);
      }
    }

    /// A copy of the parent's state; the last who needs it has the state itself.
    private Slot slot(@Nullable Kept parent) {
      if (parent == null) {
        return state.take();
      }
      parent.users--;
      return parent.users == 0 ? parent.slot : state.copyPrefix(parent.slot, parent.slot.length());
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
      // Twice where there is one, see the class.
      long[] taken = rows.length == 1 ? new long[] {rows[0], rows[0]} : rows;
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
