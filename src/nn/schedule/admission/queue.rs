//! The admission queue: the waiting computes, in the order of their turns.
//!
//! * Q1: guests take turns. Between two turns of one guest, each other guest that waits all that time has one.
//! * Q2: a guest's own computes keep the order in which they were queued.
//! * Q3: only a guest that has at least two more waiting computes than another makes room for that one, with its newest
//!   compute. So a guest always keeps one of its places, and the computes of others cannot keep it from having one.
//!
//! Each operation takes time logarithmic in the number of waiting computes.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Instant;

/// A place in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    pub(crate) guest: u64,
    /// From 1.
    pub(crate) number: u64,
}

/// A waiting compute, and the continuation that ends its wait.
pub(crate) struct Entry<E> {
    /// The time at which the timer ends its wait. `None` for a compute that watches its deadline itself.
    pub(crate) deadline: Option<Instant>,
    pub(crate) end: E,
}

/// The waiting computes, by guest.
pub(crate) struct Queue<E> {
    /// The guests that have waiting computes.
    lines: HashMap<u64, Line<E>>,
    /// These guests by their turns.
    turns: BTreeMap<u64, u64>,
    /// These guests by the number of their waiting computes.
    lengths: BTreeSet<(usize, u64)>,
    deadlines: BTreeSet<(Instant, Ticket)>,
    last_ticket: u64,
    last_turn: u64,
}

/// The waiting computes of one guest, by the number of the ticket.
struct Line<E> {
    turn: u64,
    entries: BTreeMap<u64, Entry<E>>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self {
            lines: HashMap::new(),
            turns: BTreeMap::new(),
            lengths: BTreeSet::new(),
            deadlines: BTreeSet::new(),
            last_ticket: 0,
            last_turn: 0,
        }
    }
}

impl<E> Queue<E> {
    pub(crate) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The number of waiting computes of a guest.
    pub(crate) fn length_of(&self, guest: u64) -> usize {
        self.lines.get(&guest).map_or(0, |line| line.entries.len())
    }

    pub(crate) fn push(&mut self, guest: u64, entry: Entry<E>) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket { guest, number: self.last_ticket };
        if let Some(deadline) = entry.deadline {
            self.deadlines.insert((deadline, ticket));
        }
        if !self.lines.contains_key(&guest) {
            let turn = self.next_turn(guest);
            self.lines.insert(guest, Line { turn, entries: BTreeMap::new() });
        }
        self.change(guest, |line| line.entries.insert(ticket.number, entry));
        ticket
    }

    /// Removes the compute whose turn it is; the guest's next one comes after those of all other guests.
    pub(crate) fn pop(&mut self) -> Option<Entry<E>> {
        let (_, guest) = self.turns.pop_first()?;
        let (number, entry) = self.change(guest, |line| line.entries.pop_first())?;
        self.forget_deadline(&entry, Ticket { guest, number });
        if self.lines.contains_key(&guest) {
            let turn = self.next_turn(guest);
            self.change(guest, |line| {
                line.turn = turn;
                None::<()>
            });
        }
        Some(entry)
    }

    pub(crate) fn remove(&mut self, ticket: Ticket) -> Option<Entry<E>> {
        let entry = self.change(ticket.guest, |line| line.entries.remove(&ticket.number))?;
        self.forget_deadline(&entry, ticket);
        Some(entry)
    }

    /// Removes the compute that makes room for one more of `guest`, if one has to (Q3).
    pub(crate) fn displace_for(&mut self, guest: u64) -> Option<Entry<E>> {
        let (longest, other) = *self.lengths.last()?;
        if longest <= self.length_of(guest) + 1 {
            return None;
        }
        let (number, entry) = self.change(other, |line| line.entries.pop_last())?;
        self.forget_deadline(&entry, Ticket { guest: other, number });
        Some(entry)
    }

    /// Removes a compute whose deadline has passed.
    pub(crate) fn pop_late(&mut self, now: Instant) -> Option<Entry<E>> {
        let (_, ticket) = *self.deadlines.first().filter(|(deadline, _)| *deadline <= now)?;
        self.remove(ticket)
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn next_turn(&mut self, guest: u64) -> u64 {
        self.last_turn += 1;
        self.turns.insert(self.last_turn, guest);
        self.last_turn
    }

    /// Changes the computes of a guest, and removes the guest if none is left.
    fn change<R>(&mut self, guest: u64, change: impl FnOnce(&mut Line<E>) -> Option<R>) -> Option<R> {
        let line = self.lines.get_mut(&guest)?;
        self.lengths.remove(&(line.entries.len(), guest));
        let changed = change(line);
        if line.entries.is_empty() {
            self.turns.remove(&line.turn);
            self.lines.remove(&guest);
        } else {
            self.lengths.insert((line.entries.len(), guest));
        }
        changed
    }

    fn forget_deadline(&mut self, entry: &Entry<E>, ticket: Ticket) {
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn entry() -> Entry<()> {
        Entry { deadline: None, end: () }
    }

    /// The tickets in the order of their turns.
    fn drain(queue: &mut Queue<()>, mut tickets: Vec<Ticket>) -> Vec<(u64, u64)> {
        let mut order = Vec::new();
        while queue.pop().is_some() {
            let gone = tickets.extract_if(.., |ticket| {
                !queue.lines.get(&ticket.guest).is_some_and(|line| line.entries.contains_key(&ticket.number))
            });
            order.extend(gone.map(|ticket| (ticket.guest, ticket.number)));
        }
        assert!(queue.lines.is_empty() && queue.turns.is_empty());
        assert!(queue.lengths.is_empty() && queue.deadlines.is_empty());
        order
    }

    #[test]
    fn guests_take_turns_and_each_guest_s_own_come_in_order() {
        let mut queue = Queue::default();
        let tickets = [1, 1, 1, 2, 3, 3].map(|guest| queue.push(guest, entry()));
        assert_eq!(drain(&mut queue, tickets.into()), [(1, 1), (2, 4), (3, 5), (1, 2), (3, 6), (1, 3)]);
    }

    #[test]
    fn a_guest_that_comes_back_has_its_turn_after_those_that_wait() {
        let mut queue = Queue::default();
        let tickets: Vec<_> = [1, 2, 2].map(|guest| queue.push(guest, entry())).into();
        assert!(queue.remove(tickets[0]).is_some() && queue.remove(tickets[0]).is_none());
        let again = queue.push(1, entry());
        assert_eq!(drain(&mut queue, vec![tickets[1], tickets[2], again]), [(2, 2), (1, 4), (2, 3)]);
    }

    #[test]
    fn the_newest_of_the_longest_line_makes_room_down_to_an_equal_share() {
        let mut queue = Queue::default();
        let tickets: Vec<_> = [1, 1, 1, 1, 2].map(|guest| queue.push(guest, entry())).into();
        assert!(queue.displace_for(1).is_none());
        for (guest, lengths) in [(3, [3, 1, 1]), (3, [2, 1, 2])] {
            assert!(queue.displace_for(guest).is_some());
            queue.push(guest, entry());
            assert_eq!([1, 2, 3].map(|guest| queue.length_of(guest)), lengths);
        }
        // One more compute of either guest would only swap the shares.
        assert!([1, 2, 3].iter().all(|guest| queue.displace_for(*guest).is_none()));
        assert!(queue.displace_for(4).is_some());
        assert!([3, 2].iter().all(|place| queue.remove(tickets[*place]).is_none()));
        assert!([0, 1].iter().any(|place| queue.remove(tickets[*place]).is_some()));
    }

    #[test]
    fn late_computes_are_removed_earliest_first() {
        let now = Instant::now();
        let [early, late] = [1, 2].map(|seconds| now.checked_add(std::time::Duration::from_secs(seconds)).unwrap());
        let mut queue = Queue::default();
        let tickets = [Some(late), None, Some(early)].map(|deadline| queue.push(1, Entry { deadline, end: () }));
        assert!(queue.pop_late(now).is_none());
        assert_eq!(queue.next_deadline(), Some(early));
        assert!(queue.pop_late(early).is_some() && queue.pop_late(early).is_none());
        assert_eq!(queue.next_deadline(), Some(late));
        assert!(queue.remove(tickets[0]).is_some());
        assert_eq!((queue.next_deadline(), queue.length_of(1)), (None, 1));
    }
}
