package dev.sluice.cli;

import dev.sluice.InvalidInputException;
import dev.sluice.Printable;
import dev.sluice.chat.AfterThoughts;
import dev.sluice.chat.AnswerReader;
import dev.sluice.chat.Chat;
import dev.sluice.chat.ChatFormat;
import dev.sluice.chat.ConversationFile;
import dev.sluice.chat.Message;
import dev.sluice.files.DirectoryLock;
import dev.sluice.generation.Choice;
import dev.sluice.generation.Generation.Ending;
import dev.sluice.generation.JsonRestriction;
import dev.sluice.generation.Restriction;
import dev.sluice.report.Numbers;
import dev.sluice.serving.SuggestedSampling;
import dev.sluice.state.PrefixCache;
import dev.sluice.template.ChatTemplates;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.OptionalInt;
import java.util.concurrent.Callable;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import picocli.CommandLine.Command;
import picocli.CommandLine.Mixin;
import picocli.CommandLine.Option;
import picocli.CommandLine.Parameters;

/// `sluice chat`: a conversation with a model.
@Command(
    name = "chat",
    customSynopsis = "sluice chat MODEL [--system TEXT] [--session DIR] [OPTIONS]",
    description = {
      "Talks with a model by its own chat template, turn by turn.",
      "",
      "Answers go to standard output; what the model thinks before them, and all else, to standard"
          + " error. Ctrl-C stops an answer and Ctrl-D ends the chat. Without a terminal each line"
          + " of standard input is a message, Ctrl-C ends the chat, and the exit code is 2 if a"
          + " message was refused. A message of several lines begins and ends with \"\"\".",
      "",
      "/help lists what else a line can say."
    },
    mixinStandardHelpOptions = true,
    sortOptions = false,
    footer = {
      "",
      "Examples:",
      "  ./sluice chat path/to/qwen3",
      "  ./sluice chat model-Q4_K_M.gguf --system \"Answer in one sentence.\" --session runs/talk",
      "  echo \"Why is the sea salt?\" | ./sluice chat path/to/qwen3 --thinking=false > answer.txt"
    })
final class ChatCommand implements Callable<Integer> {
  private static final String FILE = "conversation.json";
  private static final String CACHE = "read.cache";

  private static final String THINKING = "enable_thinking";

  private static final String NO_CHOICE =
      "The template does not ask whether the model is to think, so that changes nothing.";

  private static final String HELP =
      """
      /help            this list
      /system TEXT     tells the model what it is; without TEXT no more
      /new             begins anew, with the same system message
      /undo            takes the last message back, with its answer
      /again           takes back the last answer and asks for another
      /thinking on     lets the model think first, where its template has a choice; also off
      /show            prints the conversation
      /exit            ends the chat, as Ctrl-D does
      //TEXT           sends /TEXT\
      """;

  @Parameters(
      paramLabel = "MODEL",
      description =
          "A directory with config.json, weights and a tokenizer with a chat template, or a .gguf"
              + " file that has one.")
  private Path model = Path.of("");

  @Option(
      names = "--system",
      paramLabel = "TEXT",
      description = "What the model is told first. Default: nothing but what its template says.")
  private @Nullable String system;

  @Option(
      names = "--session",
      paramLabel = "DIR",
      description =
          "Keeps the conversation in this directory, after every answer; one that is there goes"
              + " on.")
  private @Nullable Path session;

  @Option(
      names = "--save-cache",
      description =
          "At the end also keep what the model has read in the session's directory, so that a long"
              + " conversation goes on at once; as many bytes as it takes in memory.")
  private boolean saveCache;

  @Option(
      names = "--thinking",
      arity = "0..1",
      fallbackValue = "true",
      paramLabel = "true|false",
      description =
          "Whether the model thinks first, where its template has a choice (enable_thinking)."
              + " Default: as the template has it.")
  private @Nullable Boolean thinking;

  @Option(
      names = "--chat-template",
      paramLabel = "FILE",
      description = "A template in the place of the model's own.")
  private @Nullable Path template;

  @Option(
      names = "--max-tokens",
      paramLabel = "N",
      description =
          "The most tokens of an answer, thoughts included. Default: what the context has room"
              + " for.")
  private int maxTokens = Integer.MAX_VALUE;

  @Mixin private SamplingOptions sampling = new SamplingOptions();

  @Mixin private JsonOptions jsonOptions = new JsonOptions();

  @Option(names = "--weights", paramLabel = "FORMAT", description = ModelOptions.WEIGHTS)
  private @Nullable String weights;

  @Option(names = "--speculate", paramLabel = "KIND", description = ModelOptions.SPECULATE)
  private @Nullable String speculate;

  @Mixin private ModelOptions options = new ModelOptions();
  @Mixin private KeyValueCacheOption kvCache = new KeyValueCacheOption();

  /// Where what is printed stands, so that thoughts and answers are apart.
  private AnswerReader.@Nullable Part printed;

  /// Whether the template asks if the model is to think.
  private boolean hasChoice;

  /// Whether a message was refused.
  private boolean refused;

  /// Of each answer.
  private Supplier<Restriction> restrictions = () -> Restriction.NONE;

  private final AtomicBoolean stop = new AtomicBoolean();

  @Override
  public Integer call() throws IOException {
    if (maxTokens < 1) {
      throw new InvalidInputException(
          "--max-tokens must be at least 1, not %d".formatted(maxTokens));
    }
    jsonOptions.read();
    if (session == null) {
      if (saveCache) {
        throw new InvalidInputException(
            "--save-cache is for a session, and none is given; add --session DIR");
      }
      return talk(null);
    }
    DirectoryLock.make(session);
    try (var lock = DirectoryLock.own(session, "a chat")) {
      if (lock.warning() != null) {
        Console.note(lock.warning());
      }
      return talk(session);
    }
  }

  private int talk(@Nullable Path directory) throws IOException {
    List<Message> before = List.of();
    Path file = directory == null ? null : directory.resolve(FILE);
    Path cached = directory == null ? null : directory.resolve(CACHE);
    if (cached != null && saveCache) {
      PrefixCache.requireReplaceable(cached); // and not only at the end
    }
    if (file != null && Files.exists(file)) {
      var held = ConversationFile.read(file);
      before = held.messages();
      Console.note(
          "%s goes on after %d messages%s."
              .formatted(
                  session,
                  before.size(),
                  held.model().equals(model.toString())
                      ? ""
                      : ", which were held with " + Printable.brief(held.model(), 200)));
    }
    try (var loaded = options.loadInPlace(model, weights, speculate);
        var lines = ChatLines.open(() -> stop.set(true))) {
      kvCache.apply(loaded.decoder());
      var source = loaded.source();
      var templates = Served.templates(source, template);
      if (templates == null) {
        throw new InvalidInputException(
            "%s has no chat template, so it was not trained on conversations; give one with --chat-template, or use ./sluice generate"
                .formatted(source.checkpoint()));
      }
      var format = new ChatFormat(templates, loaded.tokenizer());
      if (jsonOptions.areGiven()) {
        AfterThoughts.requireAnswersAlone(format);
      }
      var generator = loaded.generator();
      var stopIds = Served.turnEnds(loaded, templates);
      if (stopIds.isEmpty()) {
        Console.note("No file says which token ends an answer, so only --max-tokens ends it.");
      }
      try (var cache =
          Served.cache(
              generator,
              Served.cacheModel(source, options, generator, weights),
              cached,
              saveCache,
              Served.cacheBytes())) {
        var chat = new Chat(generator, format, stopIds, cache, variables(templates), before);
        if (system != null) {
          chat.system(system);
        }
        var suggested = SuggestedSampling.ofChat(source.checkpoint());
        suggested.notes().forEach(note -> Console.note(note + "."));
        var drawn = sampling.over(suggested);
        var choice = new Choice(drawn.sampler(), drawn.adjustments());
        restrictions = jsonOptions.restrictions(loaded, stopIds, OptionalInt.empty());
        Console.note(
            "%s, context %d tokens; %s%s. /help says what a line can say."
                .formatted(
                    source.name(),
                    loaded.decoder().config().context(),
                    SamplingOptions.words(choice),
                    sampling.isGiven()
                        ? ""
                        : " (where nothing was said, %s)".formatted(suggested.by())));
        converse(lines, chat, choice, file);
        if (cached != null && saveCache) {
          cache.save(cached);
        }
        return refused && !lines.isTerminal() ? Main.BAD_INPUT : 0;
      }
    }
  }

  private Map<String, @Nullable Object> variables(ChatTemplates templates) {
    Map<String, @Nullable Object> variables = new HashMap<>();
    hasChoice = templates.mention(THINKING);
    if (thinking != null) {
      variables.put(THINKING, thinking);
      if (!hasChoice) {
        Console.note(NO_CHOICE);
      }
    }
    return variables;
  }

  private void converse(ChatLines lines, Chat chat, Choice choice, @Nullable Path file)
      throws IOException {
    long answers = chat.messages().size(); // so that a session that goes on draws other numbers
    for (String line = lines.next(); line != null; line = lines.next()) {
      String message = line;
      String command = line.strip();
      if (command.isEmpty()) {
        continue;
      }
      if (command.equals("/exit")) {
        return;
      }
      if (command.startsWith("/") && !command.startsWith("//")) {
        var before = chat.messages();
        String again = command(command, chat);
        if (again != null && !ask(chat, again, choice, answers++)) {
          chat.restore(before);
          Console.note("The answer of before stays.");
        }
        save(chat, file);
        continue;
      } else if (command.startsWith("//")) {
        message = command.substring(1);
      }
      var _ = ask(chat, message, choice, answers++);
      save(chat, file);
    }
  }

  /// Does what a line beginning with a slash says.
  ///
  /// @return a message that is to be sent, or null
  private @Nullable String command(String line, Chat chat) {
    int blank = line.indexOf(' ');
    String name = blank < 0 ? line : line.substring(0, blank);
    String rest = blank < 0 ? "" : line.substring(blank).strip();
    switch (name) {
      case "/help" -> Console.note(HELP);
      case "/system" -> {
        chat.system(rest);
        Console.note(rest.isEmpty() ? "There is no system message now." : "Told the model.");
      }
      case "/new" -> {
        chat.forget();
        Console.note("A new conversation.");
      }
      case "/undo" -> {
        String taken = chat.undo();
        Console.note(
            taken == null
                ? "There is no message to take back."
                : "Took back: " + Printable.brief(taken, 200));
      }
      case "/again" -> {
        String taken = chat.undo();
        if (taken == null) {
          Console.note("There is no message to answer again.");
        }
        return taken;
      }
      case "/thinking" -> {
        if (rest.equals("on") || rest.equals("off")) {
          chat.variable(THINKING, rest.equals("on"));
          Console.note(hasChoice ? "Thinking is %s.".formatted(rest) : NO_CHOICE);
        } else {
          Console.note("/thinking is followed by on or off.");
        }
      }
      case "/show" ->
          chat.messages()
              .forEach(
                  message ->
                      Console.note("[%s] %s".formatted(message.role().word(), message.content())));
      default ->
          Console.note(
              "There is no %s; /help lists what there is, and //… sends a message that begins with a slash."
                  .formatted(Printable.brief(name, 40)));
    }
    return null;
  }

  /// What is wrong with one message does not end the conversation.
  ///
  /// @return whether there is an answer, or the beginning of one
  private boolean ask(Chat chat, String message, Choice choice, long answers) {
    stop.set(false);
    printed = null;
    var restriction = restrictions.get();
    try {
      var answer =
          chat.ask(
              message,
              choice.reseeded(choice.sampler().seed() + answers).restricted(restriction),
              maxTokens,
              stop::get,
              new Chat.Listener() {
                private final SlowProgress progress = new SlowProgress("token");

                @Override
                public void onRead(int tokens, int total) {
                  progress.advanced(tokens, total, "reading the prompt");
                }

                @Override
                public void onPiece(AnswerReader.Part part, String piece) {
                  print(part, piece);
                }
              });
      if (printed == AnswerReader.Part.THINKING) {
        Console.aside("\n");
      }
      Console.print("");
      Console.note(
          "%s%d tokens, %s tokens/s%s; %d of prompt, %d of them not read again, in %s s."
              .formatted(
                  switch (answer.ending()) {
                    case STOP_TOKEN -> "";
                    case LENGTH -> "Cut off for length. ";
                    case CALLER ->
                        answer.hasBegun()
                            ? "Stopped. "
                            : "Stopped before it began, so the message is taken back. ";
                  },
                  answer.tokens(),
                  answer.tokens() < 2
                      ? "–"
                      : Numbers.fixed((answer.tokens() - 1) / answer.seconds(), 1),
                  ModelOptions.drafts(speculate, answer.accepted(), answer.drafted()),
                  answer.promptTokens(),
                  answer.cachedTokens(),
                  Numbers.fixed(answer.promptSeconds(), 2)));
      if (answer.hasBegun() && answer.message().content().isEmpty()) {
        Console.note(
            answer.message().thinking().isEmpty()
                ? "The model answered nothing."
                : "The model only thought, and answered nothing.");
      }
      if (answer.hasBegun()
          && restriction instanceof JsonRestriction value
          && !value.isComplete()) {
        Console.note(
            "The JSON is not complete, since the answer ended before%s."
                .formatted(answer.ending() == Ending.LENGTH ? "; --max-tokens gives it more" : ""));
      }
      return answer.hasBegun();
    } catch (InvalidInputException e) {
      if (printed != null) {
        Console.print("");
      }
      Console.error(Main.sentence(e.getMessage()));
      refused = true;
      return false;
    }
  }

  private void print(AnswerReader.Part part, String piece) {
    if (part == AnswerReader.Part.THINKING) {
      Console.aside(printed == null ? "[thinking] " + piece : piece);
    } else {
      if (printed == AnswerReader.Part.THINKING) {
        Console.aside("\n[answer]\n");
      }
      Console.stream(piece);
    }
    printed = part;
  }

  private void save(Chat chat, @Nullable Path file) throws IOException {
    if (file != null) {
      ConversationFile.write(file, new ConversationFile.Held(model.toString(), chat.messages()));
    }
  }
}
