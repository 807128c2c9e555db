package dev.sluice.chat;

import org.jspecify.annotations.Nullable;

/// Tells apart what a model thinks and what it answers, as the text comes piece by piece. What may
/// become a mark is held back until that is decided.
///
/// Two forms are known. Most models put thoughts between `<think>` and `</think>`; the first of the
/// two may stand in the prompt already, and counts elsewhere only where nothing but blanks stands
/// before it. Those of gpt-oss open each message with control tokens, `<|channel|>analysis
/// <|message|>` for thoughts and any other channel for the answer.
///
/// Line breaks and blanks around thoughts are no part of either.
///
/// A model that calls a tool may forget to end its thoughts: where the mark of calls is given, it
/// ends them too.
public final class AnswerReader {
  private static final String BEGIN = "<think>";
  private static final String END = "</think>";
  static final String CHANNEL = "<|channel|>";
  private static final String START = "<|start|>";
  private static final String MESSAGE = "<|message|>";
  private static final String THOUGHTS = "analysis";

  /// What a piece of text belongs to.
  public enum Part {
    THINKING,
    ANSWER
  }

  /// Hears of each piece as soon as it is sure.
  @FunctionalInterface
  public interface Listener {
    /// @param piece never empty
    void onPiece(Part part, String piece);
  }

  private enum Place {
    /// Nothing but blanks has come.
    BEGINNING,
    THINKING,
    /// Behind thoughts, before the first text of the answer.
    BETWEEN,
    ANSWER,
    /// Between control tokens that open a message.
    HEADER
  }

  private final Listener listener;
  private final @Nullable String call;
  private final StringBuilder held = new StringBuilder();
  private Place place;
  private boolean thought; // some text
  private String header = "";

  /// @param thinks whether the prompt has opened thoughts already
  public AnswerReader(boolean thinks, Listener listener) {
    this(thinks, null, listener);
  }

  /// @param thinks whether the prompt has opened thoughts already
  /// @param call the mark that begins a call of a tool, which is a part of the answer; null for
  ///   none
  public AnswerReader(boolean thinks, @Nullable String call, Listener listener) {
    this.place = thinks ? Place.THINKING : Place.BEGINNING;
    this.call = call;
    this.listener = listener;
  }

  /// Takes the next piece of text.
  public void add(String piece) {
    held.append(piece);
    read(false);
  }

  /// Takes a control token, which has no text: it may open another part.
  public void control(String token) {
    switch (token) {
      case BEGIN, END -> add(token);
      case CHANNEL, START -> {
        if (place != Place.HEADER) {
          read(true);
          place = Place.HEADER;
        }
        held.setLength(0);
        header = token;
      }
      case MESSAGE -> {
        boolean thoughts = header.equals(CHANNEL) && held.toString().strip().equals(THOUGHTS);
        held.setLength(0);
        place = thoughts ? Place.THINKING : Place.BETWEEN;
        thought = false;
      }
      default -> read(true);
    }
  }

  /// Gives what is still held back, as no more text comes.
  public void finish() {
    read(true);
  }

  private void read(boolean all) {
    Place before;
    do {
      before = place;
      switch (place) {
        case BEGINNING -> begin(all);
        case THINKING -> think(all);
        case BETWEEN -> {
          int from = blanks();
          if (from < held.length()) {
            held.delete(0, from);
            place = Place.ANSWER;
          }
        }
        case ANSWER -> give(Part.ANSWER, held.length());
        case HEADER -> {}
      }
    } while (place != before);
  }

  private void begin(boolean all) {
    int from = blanks();
    if (held.indexOf(BEGIN, from) == from) {
      held.delete(0, from + BEGIN.length());
      place = Place.THINKING;
    } else if (from < held.length() && (all || !BEGIN.startsWith(held.substring(from)))) {
      place = Place.ANSWER;
    }
  }

  private void think(boolean all) {
    if (!thought) {
      held.delete(0, blanks());
    }
    int end = held.indexOf(END);
    int called = call == null ? -1 : held.indexOf(call);
    boolean ended = end >= 0 && (called < 0 || end < called);
    int sure =
        ended
            ? end
            : called >= 0 ? called : held.length() - (all ? 0 : Math.max(begun(END), begun(call)));
    while (sure > 0 && Character.isWhitespace(held.charAt(sure - 1))) {
      sure--;
    }
    thought |= sure > 0;
    give(Part.THINKING, sure);
    if (ended) {
      held.delete(0, held.indexOf(END) + END.length());
      place = Place.BETWEEN;
    } else if (called >= 0) {
      place = Place.BETWEEN;
    }
  }

  /// Characters at the end that may begin `mark`.
  private int begun(@Nullable String mark) {
    if (mark == null) {
      return 0;
    }
    for (int length = Math.min(mark.length() - 1, held.length()); length > 0; length--) {
      if (mark.startsWith(held.substring(held.length() - length))) {
        return length;
      }
    }
    return 0;
  }

  /// How many blanks are held first.
  private int blanks() {
    int count = 0;
    while (count < held.length() && Character.isWhitespace(held.charAt(count))) {
      count++;
    }
    return count;
  }

  private void give(Part part, int length) {
    if (length > 0) {
      String piece = held.substring(0, length);
      held.delete(0, length);
      listener.onPiece(part, piece);
    }
  }
}
