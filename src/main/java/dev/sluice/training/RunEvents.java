package dev.sluice.training;

import dev.sluice.InvalidInputException;
import dev.sluice.files.JsonFile;
import dev.sluice.files.RegularFile;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;

/// What befell a run: what its guard did, from `events.jsonl`, and the step that ended it.
public final class RunEvents {
  private static final String WAY_OUT = "remove it; the run writes it again";

  private RunEvents() {}

  /// @param step at which
  /// @param what was done and why, in words
  public record Event(int step, String what) {}

  /// What is recorded of a step that ended the run, if it did.
  public static Optional<Path> failure(Path run, long step) {
    return Optional.of(FailureRecord.place(run, step)).filter(Files::isDirectory);
  }

  /// All events, in order; none of a run whose guard did nothing.
  ///
  /// @throws InvalidInputException if the file is damaged
  public static List<Event> read(Path run) {
    Path file = run.resolve(TrainingRun.EVENTS);
    if (Files.notExists(file)) {
      return List.of();
    }
    List<Event> events = new ArrayList<>();
    var text = new String(RegularFile.read(file, JsonFile.SMALL, WAY_OUT), StandardCharsets.UTF_8);
    for (String line : text.lines().toList()) {
      var event = JsonFile.read(file, line.getBytes(StandardCharsets.UTF_8), WAY_OUT);
      String cause = event.path("cause").asString("");
      events.add(
          new Event(
              event.path("step").asInt(0),
              switch (event.path("action").asString("")) {
                case "skip" -> "Passed over: " + cause;
                case "rollback" ->
                    "Went back to step %d: %s".formatted(event.path("to_step").asInt(0), cause);
                case "give up" -> "Gave up: " + cause;
                default -> cause;
              }));
    }
    return events;
  }
}
