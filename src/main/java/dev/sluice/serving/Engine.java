package dev.sluice.serving;

import dev.sluice.InvalidInputException;
import dev.sluice.decoder.Decoder;
import dev.sluice.generation.Continuation;
import dev.sluice.generation.Generator;
import dev.sluice.generation.Prompt;
import dev.sluice.generation.PromptReading;
import dev.sluice.generation.TokenLogprob;
import dev.sluice.operations.TokenSteps;
import dev.sluice.probe.Probe;
import dev.sluice.serving.Ticket.Event;
import dev.sluice.state.PrefixCache;
import dev.sluice.state.PrefixCache.Reuse;
import dev.sluice.state.SequenceState;
import dev.sluice.state.Slot;
import dev.sluice.tensor.NativeCall;
import java.time.Duration;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.CancellationException;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.ReentrantLock;
import java.util.function.Function;
import org.jspecify.annotations.Nullable;

/// Writes many texts at once with one model (continuous batching).
///
/// One thread owns the model and what it keeps of texts. In each step every text that is being
/// written gets a token, then prompts are read, one pass of each in turn, up to a piece of tokens.
/// So a long prompt neither stops those who write nor those who have just come. Requests begin in
/// the order in which they came, when there are slots and memory for the longest that they may
/// become.
///
/// A text is what it would be alone: random numbers, penalties and restrictions are its own, its
/// prompt is read in passes of its own, and a pass through the model has at most [#ROWS] texts, of
/// which each gets the bits that it gets alone in a model that was opened to run
/// (`ModelDirectory.openInPlace`). Of other models the texts are equal but for ties within
/// rounding.
///
/// Threads may share it.
public final class Engine implements AutoCloseable {
  /// Texts of a pass. Products with stored weights take up to so many rows as they take one; with
  /// more, a row's sum is rounded in another way (decision 0026).
  static final int ROWS = TokenSteps.MOST_SEQUENCES;

  /// Room that there is for keys and values of a text at first.
  private static final int SMALLEST_ROOM = 64;

  private static final int LONGEST_RETRY_SECONDS = 60;

  private final Generator generator;
  private final EngineLimits limits;
  private final @Nullable PrefixCache cache;
  private final Reuse reuse;
  private final int vocabulary;
  private final EngineCounts counts = new EngineCounts();
  private final Thread thread;

  /// Of the texts of a pass, for the engine's thread alone.
  private float[][] logits = new float[0][];

  /// Bytes that the model keeps of a text whatever its length, and of each token.
  private final long fixedBytes;

  private final long tokenBytes;

  private final ReentrantLock lock = new ReentrantLock();
  private final Condition news = lock.newCondition();

  // Guarded by the lock.
  private final Deque<Ticket> waiting = new ArrayDeque<>();
  private final Deque<FutureTask<?>> works = new ArrayDeque<>();
  private @Nullable String ending; // why no more requests are taken
  private boolean aborting;

  // The engine's thread's alone.
  private final List<Group> groups = new ArrayList<>();
  private final Deque<Group> reading = new ArrayDeque<>();
  private final List<Text> writing = new ArrayList<>();

  // Written by the engine's thread alone.
  private final AtomicInteger usedSlots = new AtomicInteger();
  private final AtomicLong usedBytes = new AtomicLong();
  private volatile long cachedBytes;
  private volatile double requestSeconds = 1;

  /// A request that was begun.
  private static final class Group {
    final Ticket ticket;
    final Prompt prompt;
    final PromptReading reading;
    final long bytes;
    final List<Text> texts = new ArrayList<>(); // those that were begun and have not ended
    int left; // texts that have not ended, each with a slot or one that is set aside for it
    int told; // tokens of the prompt that were told to have been read

    Group(Ticket ticket, Prompt prompt, PromptReading reading, long bytes) {
      this.ticket = ticket;
      this.prompt = prompt;
      this.reading = reading;
      this.bytes = bytes;
      this.left = ticket.request().sequences();
    }
  }

  /// One text of a request.
  private static final class Text {
    final Group group;
    final int number;
    final Slot slot;
    final Continuation continuation;
    long told; // when it got its last token; 0 before the first

    Text(Group group, int number, Slot slot, Continuation continuation) {
      this.group = group;
      this.number = number;
      this.slot = slot;
      this.continuation = continuation;
    }

    boolean isWatched() {
      return group.ticket.request().isWatched();
    }
  }

  /// Begins to wait for requests.
  ///
  /// @param generator of the model, which stays its owner's; nobody else uses it meanwhile
  /// @param cache of the model, for the engine alone until it is closed; null for none
  /// @param reuse what is taken from the cache: with [Reuse#EXACT] the texts are what they are
  ///   without it; with [Reuse#LONGEST] answers are not read again either
  public Engine(
      Generator generator, EngineLimits limits, @Nullable PrefixCache cache, Reuse reuse) {
    this.generator = new Generator(generator.decoder(), limits.piece());
    this.limits = limits;
    this.cache = cache;
    this.reuse = reuse;
    this.vocabulary = generator.decoder().config().vocabSize();
    try (var state = generator.decoder().newState(1, 2)) {
      var slot = state.take();
      long first = bytesAfterAToken(state, slot);
      long second = bytesAfterAToken(state, slot);
      this.tokenBytes = second - first;
      this.fixedBytes = first - tokenBytes;
    }
    this.thread = Thread.ofPlatform().name("sluice-engine").daemon().unstarted(this::run);
    thread.start();
  }

  private long bytesAfterAToken(SequenceState state, Slot slot) {
    generator.step(new int[] {0}, state.past(slot), Probe.NONE, generator.rows(1));
    try (var snapshot = state.snapshot(slot)) {
      return snapshot.bytes();
    }
  }

  /// What it has done.
  public EngineCounts counts() {
    return counts;
  }

  /// What it was made with.
  public EngineLimits limits() {
    return limits;
  }

  /// How many requests wait until there is room.
  public int waiting() {
    lock.lock();
    try {
      return waiting.size();
    } finally {
      lock.unlock();
    }
  }

  /// How many slots are taken, by texts and by prompts that are read for them.
  public int usedSlots() {
    return usedSlots.get();
  }

  /// Memory that is set aside for the texts that were begun.
  public long usedBytes() {
    return usedBytes.get();
  }

  /// Memory of what is kept of the beginnings of texts.
  public long cachedBytes() {
    return cachedBytes;
  }

  /// Whether requests are taken.
  public boolean isOpen() {
    lock.lock();
    try {
      return ending == null;
    } finally {
      lock.unlock();
    }
  }

  /// The most memory that a text of so many tokens needs: its room doubles as it grows.
  long bytes(int tokens) {
    long room = Math.min(Math.max(SMALLEST_ROOM, 2L * tokens), limits.context());
    return fixedBytes + room * tokenBytes;
  }

  /// The most tokens of each of several texts with their prompt, by context and memory; 0 where
  /// there is no memory for any.
  public int mostTokens(int sequences) {
    long each = limits.memoryBytes() / sequences - fixedBytes;
    long room = tokenBytes == 0 ? limits.context() : each / tokenBytes;
    long tokens = room >= limits.context() ? limits.context() : room / 2;
    return room < SMALLEST_ROOM && room < limits.context()
        ? 0
        : Math.clamp(tokens, 0, limits.context());
  }

  /// How many tokens the model knows.
  public int vocabulary() {
    return vocabulary;
  }

  /// Puts a request into the queue.
  ///
  /// @throws InvalidInputException if it never could be begun
  /// @throws RefusedException if too many wait, or the engine is about to end
  public Ticket submit(TextRequest request) {
    requirePossible(request);
    var ticket = new Ticket(request);
    lock.lock();
    try {
      if (ending != null) {
        throw RefusedException.ending(ending);
      }
      forgetCancelled();
      if (waiting.size() >= limits.waiting()) {
        counts.refused.increment();
        double seconds = requestSeconds * waiting.size() / limits.slots();
        throw RefusedException.busy(
            waiting.size(), (int) Math.clamp(Math.round(seconds), 1L, LONGEST_RETRY_SECONDS));
      }
      waiting.add(ticket);
      counts.requests.increment();
      news.signal();
      return ticket;
    } finally {
      lock.unlock();
    }
  }

  /// Does other work with the model, in the engine's thread, between two steps: those who write get
  /// their next tokens after it.
  ///
  /// @return what the work gives; what it throws is thrown here
  /// @throws RefusedException if the engine is about to end
  /// @throws CancellationException if this thread is interrupted before the work is done
  public <T> T with(Function<Decoder, T> work) {
    var task = new FutureTask<>(() -> work.apply(generator.decoder()));
    lock.lock();
    try {
      if (ending != null) {
        throw RefusedException.ending(ending);
      }
      works.add(task);
      news.signal();
    } finally {
      lock.unlock();
    }
    try {
      return task.get();
    } catch (InterruptedException e) {
      task.cancel(false);
      Thread.currentThread().interrupt();
      throw (CancellationException) new CancellationException("interrupted").initCause(e);
    } catch (ExecutionException e) {
      switch (e.getCause()) {
        case RuntimeException own -> throw own;
        case Error own -> throw own;
        case null, default -> throw new IllegalStateException(e);
      }
    }
  }

  /// Does the works that wait.
  private void work() {
    for (var task = nextWork(); task != null; task = nextWork()) {
      task.run();
    }
  }

  private @Nullable FutureTask<?> nextWork() {
    lock.lock();
    try {
      return works.poll();
    } finally {
      lock.unlock();
    }
  }

  /// For who holds the lock.
  private void forgetCancelled() {
    int before = waiting.size();
    waiting.removeIf(Ticket::isCancelled);
    counts.cancelled.add(before - waiting.size());
  }

  /// Refuses to watch texts of which there is nothing to see, or too much.
  ///
  /// @param mostTokens of each text
  /// @throws InvalidInputException in one sentence
  public void requireWatchable(int mostTokens) {
    if (!isWatchable()) {
      throw new InvalidInputException(
          "the model has no layer of attention, so that there is nothing to watch; do not ask for"
              + " it");
    }
    if (mostTokens > TokenWatch.MOST_TOKENS) {
      throw new InvalidInputException(
          "a text of up to %d tokens is to be watched, and of more than %d that is not possible; ask for fewer"
              .formatted(mostTokens, TokenWatch.MOST_TOKENS));
    }
  }

  /// Whether texts of this model can be watched.
  public boolean isWatchable() {
    return generator.decoder().config().layers().stream()
        .anyMatch(layer -> layer.attention().isPresent());
  }

  private WatchedPass watch(int rows) {
    return new WatchedPass(generator.decoder().config().layers().size(), rows);
  }

  private void requirePossible(TextRequest request) {
    if (request.sequences() > limits.slots()) {
      throw new InvalidInputException(
          "%d texts at once are asked for, and %d are possible; ask for fewer"
              .formatted(request.sequences(), limits.slots()));
    }
    if (request.length() > limits.context()
        || request.sequences() * bytes(request.length()) > limits.memoryBytes()) {
      throw new InvalidInputException(
          "%d tokens of prompt and %d more for each of %d texts are too many; there is room for %d tokens of one text"
              .formatted(
                  request.ids().length,
                  request.mostTokens(),
                  request.sequences(),
                  mostTokens(request.sequences())));
    }
    if (request.isWatched()) {
      requireWatchable(request.mostTokens());
    }
    request.choice().adjustments().requireTokens(vocabulary);
    long[] ids = new long[request.ids().length];
    for (int i = 0; i < ids.length; i++) {
      ids[i] = request.ids()[i];
    }
    generator.decoder().config().requireInVocabulary(ids);
  }

  // ---------------------------------------------------------------- the engine's thread

  private void run() {
    try (var state = generator.decoder().newState(limits.slots(), limits.context())) {
      while (true) {
        begin(state);
        drop(state);
        work();
        if (groups.isEmpty()) {
          if (!awaitNews()) {
            return;
          }
        } else {
          write(state);
          read(state);
        }
      }
    } catch (RuntimeException | Error e) {
      fail(e);
      throw e;
    } catch (InterruptedException e) {
      fail(new IllegalStateException("the engine was interrupted", e));
    }
  }

  /// Something that no request is at fault for: there will be no more texts.
  private void fail(Throwable e) {
    lock.lock();
    try {
      ending = "the engine has failed, so that no text can be written any more";
      var cause = new IllegalStateException(ending, e);
      waiting.forEach(ticket -> ticket.tell(new Event.Failed(cause)));
      waiting.clear();
      works.forEach(work -> work.cancel(false));
      works.clear();
      groups.forEach(group -> group.ticket.tell(new Event.Failed(cause)));
      groups.clear();
      usedSlots.set(0);
      usedBytes.set(0);
    } finally {
      lock.unlock();
    }
  }

  /// Waits for a request or other work.
  ///
  /// @return false if there will be none
  private boolean awaitNews() throws InterruptedException {
    lock.lock();
    try {
      while (waiting.isEmpty() && works.isEmpty()) {
        if (ending != null) {
          return false;
        }
        news.await();
      }
      return true;
    } finally {
      lock.unlock();
    }
  }

  /// Begins the requests that came first, as long as there is room for the next.
  private void begin(SequenceState state) {
    for (var ticket = nextThatFits(); ticket != null; ticket = nextThatFits()) {
      var request = ticket.request();
      var prompt =
          new Prompt(
              request.ids(), request.turnStarts(), request.reusesPrefixes() ? cache : null, reuse);
      long bytes = request.sequences() * bytes(request.length());
      try {
        var read = new PromptReading(generator.decoder(), prompt, state, limits.piece());
        read.expect(request.length());
        var group = new Group(ticket, prompt, read, bytes);
        groups.add(group);
        reading.add(group);
        usedSlots.addAndGet(request.sequences());
        usedBytes.addAndGet(bytes);
        counts.cachedTokens.add(read.cachedTokens());
        tellRead(group);
      } catch (RuntimeException | OutOfMemoryError e) {
        refuse(ticket, e);
      }
    }
  }

  private @Nullable Ticket nextThatFits() {
    lock.lock();
    try {
      forgetCancelled();
      var first = waiting.peek();
      if (first == null) {
        return null;
      }
      var request = first.request();
      boolean fits =
          usedSlots.get() + request.sequences() <= limits.slots()
              && usedBytes.get() + request.sequences() * bytes(request.length())
                  <= limits.memoryBytes();
      return fits ? waiting.poll() : null;
    } finally {
      lock.unlock();
    }
  }

  /// Ends what nobody wants any more.
  private void drop(SequenceState state) {
    boolean all;
    lock.lock();
    try {
      all = aborting;
    } finally {
      lock.unlock();
    }
    for (var group : List.copyOf(groups)) {
      if (all) {
        group.ticket.tell(new Event.Failed(RefusedException.ending("the server is ending")));
      }
      if (all || group.ticket.isCancelled()) {
        counts.cancelled.increment();
        remove(state, group);
      }
    }
    for (var text : List.copyOf(writing)) {
      if (text.group.ticket.isStopped(text.number)) {
        text.continuation.stop();
        end(state, text);
      }
    }
  }

  /// A token for each text. Those that are watched have passes of their own, since these take more
  /// time.
  private void write(SequenceState state) {
    var texts = List.copyOf(writing);
    write(state, texts.stream().filter(text -> !text.isWatched()).toList(), false);
    write(state, texts.stream().filter(Text::isWatched).toList(), true);
  }

  private void write(SequenceState state, List<Text> texts, boolean watched) {
    for (int from = 0; from < texts.size(); from += ROWS) {
      // One that failed may have taken others of its request with it.
      var pass = new ArrayList<>(texts.subList(from, Math.min(from + ROWS, texts.size())));
      pass.removeIf(text -> !writing.contains(text));
      if (pass.isEmpty()) {
        continue;
      }
      long began = System.nanoTime();
      var probe = watched ? watch(pass.size()) : null;
      try {
        int[] last = pass.stream().mapToInt(text -> text.continuation.last()).toArray();
        var past = state.past(pass.stream().map(text -> text.slot).toList());
        if (logits.length < last.length) {
          logits = generator.rows(last.length);
        }
        generator.step(last, past, probe == null ? Probe.NONE : probe, logits);
        Continuation.draw(pass.stream().map(text -> text.continuation).toList(), logits);
      } catch (RuntimeException | OutOfMemoryError e) {
        pass.stream().map(text -> text.group).distinct().forEach(group -> fail(state, group, e));
        continue;
      }
      counts.steps.increment();
      for (int i = 0; i < pass.size(); i++) {
        choose(state, pass.get(i), logits[i], probe == null ? null : probe.of(i));
      }
      counts.generationSeconds.add((System.nanoTime() - began) / 1e9);
    }
  }

  /// Reads of prompts, one pass of each in turn, a piece of tokens or a little more.
  private void read(SequenceState state) {
    int left = limits.piece();
    while (left > 0 && !reading.isEmpty()) {
      var group = reading.remove();
      int before = group.reading.slot().length();
      long began = System.nanoTime();
      var probe = group.ticket.request().isWatched() ? watch(1) : null;
      float[] logits;
      try {
        logits = group.reading.next(probe == null ? Probe.NONE : probe);
      } catch (RuntimeException | OutOfMemoryError e) {
        fail(state, group, e);
        continue;
      }
      int tokens = group.reading.slot().length() - before;
      left -= tokens;
      counts.promptTokens.add(tokens);
      counts.promptSeconds.add((System.nanoTime() - began) / 1e9);
      cachedBytes = cache == null ? 0 : cache.bytes();
      tellRead(group);
      if (logits == null) {
        reading.add(group);
      } else {
        beginTexts(state, group, logits, probe == null ? null : probe.of(0));
      }
    }
  }

  private void beginTexts(
      SequenceState state, Group group, float[] logits, @Nullable TokenWatch watch) {
    var request = group.ticket.request();
    int[] ids = request.ids();
    try {
      for (int i = 0; i < request.sequences(); i++) {
        var continuation =
            new Continuation(
                i, request.choice(), ids, vocabulary, request.mostTokens(), request.stopIds());
        var first = group.reading.slot();
        var slot = i == 0 ? first : state.copyPrefix(first, ids.length);
        var text = new Text(group, i, slot, continuation);
        group.texts.add(text);
        writing.add(text);
      }
    } catch (RuntimeException | OutOfMemoryError e) {
      fail(state, group, e);
      return;
    }
    counts.firstTokenSeconds.add((System.nanoTime() - group.ticket.asked()) / 1e9);
    List.copyOf(group.texts).forEach(text -> choose(state, text, logits, watch));
  }

  private void choose(SequenceState state, Text text, float[] logits, @Nullable TokenWatch watch) {
    var group = text.group;
    if (!groups.contains(group)) {
      return; // another text of the request has failed
    }
    try {
      if (text.continuation.choose(logits)) {
        int token = text.continuation.last();
        int likeliest = group.ticket.request().logprobs();
        group.ticket.tell(
            new Event.Token(
                text.number,
                token,
                likeliest < 0 ? null : TokenLogprob.of(token, logits, likeliest),
                watch));
        counts.generatedTokens.increment();
        long now = System.nanoTime();
        if (text.told != 0) {
          counts.interTokenSeconds.add((now - text.told) / 1e9);
        }
        text.told = now;
      }
    } catch (RuntimeException | OutOfMemoryError e) {
      fail(state, group, e);
      return;
    }
    if (text.continuation.ending() != null) {
      end(state, text);
    }
  }

  private void tellRead(Group group) {
    int tokens = group.reading.slot().length();
    if (tokens > group.told) {
      group.told = tokens;
      group.ticket.tell(
          new Event.Read(tokens, group.reading.total(), group.reading.cachedTokens()));
    }
  }

  private void end(SequenceState state, Text text) {
    var group = text.group;
    var ending = text.continuation.ending();
    if (ending == null) {
      throw new IllegalStateException("a text that has not ended");
    }
    try {
      group.prompt.keepAnswer(state, text.slot, text.continuation.tokens());
    } catch (RuntimeException | OutOfMemoryError e) {
      fail(state, group, e);
      return;
    }
    writing.remove(text);
    group.texts.remove(text);
    state.release(text.slot);
    usedSlots.decrementAndGet();
    group.left--;
    if (group.left == 0) {
      groups.remove(group);
      usedBytes.addAndGet(-group.bytes);
      double seconds = (System.nanoTime() - group.ticket.asked()) / 1e9;
      requestSeconds = (7 * requestSeconds + seconds) / 8;
    }
    group.ticket.tell(new Event.Ended(text.number, ending));
  }

  private void refuse(Ticket ticket, Throwable e) {
    counts.failed.increment();
    ticket.tell(new Event.Failed(cause(e)));
  }

  private void fail(SequenceState state, Group group, Throwable e) {
    remove(state, group);
    refuse(group.ticket, e);
  }

  /// What whoever asked is told.
  private static RuntimeException cause(Throwable e) {
    return switch (e) {
      case InvalidInputException invalid -> invalid;
      case Throwable failure when NativeCall.ranOutOfMemory(failure) ->
          RefusedException.ending(
              "there is not enough memory for this request; ask for fewer tokens, or give the"
                  + " server less --memory");
      default -> new IllegalStateException("a pass through the model has failed", e);
    };
  }

  /// Frees all that is held for a request.
  private void remove(SequenceState state, Group group) {
    boolean hasBegun = group.left < group.ticket.request().sequences() || !group.texts.isEmpty();
    if (!hasBegun) {
      state.release(group.reading.slot()); // else it is the first text's
    }
    group.texts.forEach(text -> state.release(text.slot));
    writing.removeAll(group.texts);
    reading.remove(group);
    groups.remove(group);
    usedSlots.addAndGet(-group.left);
    usedBytes.addAndGet(-group.bytes);
  }

  /// Takes no more requests, and waits until those that were taken have ended.
  ///
  /// @param longest after which they end as they are
  public void close(Duration longest) {
    lock.lock();
    try {
      if (ending == null) {
        ending = "the server is ending";
      }
      news.signal();
    } finally {
      lock.unlock();
    }
    if (!joined(longest)) {
      lock.lock();
      try {
        aborting = true;
        waiting.forEach(
            ticket ->
                ticket.tell(new Event.Failed(RefusedException.ending("the server is ending"))));
        waiting.clear();
      } finally {
        lock.unlock();
      }
      var _ = joined(Duration.ofDays(1)); // a step is all that it takes
    }
  }

  private boolean joined(Duration longest) {
    boolean interrupted = false;
    long end = System.nanoTime() + longest.toNanos();
    try {
      while (true) {
        try {
          long left = Math.max(0, end - System.nanoTime());
          TimeUnit.NANOSECONDS.timedJoin(thread, Math.max(1, left));
          if (!thread.isAlive() || left == 0) {
            return !thread.isAlive();
          }
        } catch (InterruptedException _) {
          interrupted = true;
        }
      }
    } finally {
      if (interrupted) {
        Thread.currentThread().interrupt();
      }
    }
  }

  /// Ends at once.
  @Override
  public void close() {
    close(Duration.ZERO);
  }
}
