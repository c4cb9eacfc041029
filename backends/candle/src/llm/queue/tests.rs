use super::*;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Waits until `count` requests wait.
fn until_waiting<R>(queue: &BatchQueue<R>, count: usize) {
    while queue.waiting() != count {
        thread::yield_now();
    }
}

/// A request that is led, which must be so at once.
fn lead<R>(queue: &BatchQueue<R>, request: R) -> Leader<'_, R> {
    match queue.join(request, 1, &Seat::new(), None, || false, || ()) {
        Joined::Leads(leader) => leader,
        _ => panic!("another thread has led it"),
    }
}

/// Brings a request, adds 100 to each of a pass that it leads, and notes the pass.
fn join(queue: &BatchQueue<u32>, request: u32, cost: usize, passes: &Mutex<Vec<Vec<u32>>>) -> u32 {
    match queue.join(request, cost, &Seat::new(), None, || false, || ()) {
        Joined::Leads(mut leader) => {
            passes.lock().unwrap().push(leader.requests().to_vec());
            leader.requests().iter_mut().for_each(|request| *request += 100);
            leader.finish()
        }
        Joined::Computed(request) => request,
        Joined::CutOff(_) | Joined::Left(_) => panic!("neither cut off nor stopped"),
    }
}

#[test]
fn passes_take_requests_in_order_up_to_their_bound() {
    let (queue, passes) = (BatchQueue::new(10, 1, |_| Duration::ZERO), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let first = lead(&queue, 0);
        // 4 + 6, then 11 alone, then the rest.
        for (index, (request, cost)) in [(1, 4), (2, 6), (3, 11), (4, 1), (5, 1), (6, 1)].into_iter().enumerate() {
            let (queue, passes) = (&queue, &passes);
            scope.spawn(move || assert_eq!(join(queue, request, cost, passes), request + 100));
            until_waiting(queue, index + 1);
        }
        assert_eq!(first.finish(), 0);
    });
    assert_eq!(*passes.lock().unwrap(), [vec![1, 2], vec![3], vec![4, 5, 6]]);
    assert_eq!(queue.lock().leaders, 0);
}

#[test]
fn a_request_leads_at_once_while_a_pass_is_free() {
    let queue = BatchQueue::new(10, 2, |_| Duration::ZERO);
    let (one, other) = (lead(&queue, 1), lead(&queue, 2));
    thread::scope(|scope| {
        let third = scope.spawn(|| match queue.join(3, 1, &Seat::new(), None, || false, || ()) {
            Joined::Leads(leader) => leader.finish(),
            _ => panic!("nobody else leads"),
        });
        until_waiting(&queue, 1);
        assert_eq!(other.finish(), 2);
        assert_eq!(third.join().unwrap(), 3);
    });
    assert_eq!(one.finish(), 1);
    assert_eq!(queue.lock().leaders, 0);
}

#[test]
fn a_request_that_is_late_or_stopped_leaves_while_a_pass_runs() {
    let queue = BatchQueue::new(10, 1, |_| Duration::ZERO);
    let leader = lead(&queue, 0);
    let late = queue.join(1, 1, &Seat::new(), Some(Instant::now() + Duration::from_millis(5)), || false, || ());
    assert!(matches!(late, Joined::Left(1)));
    let (stopped, seat) = (AtomicBool::new(false), Seat::new());
    thread::scope(|scope| {
        let waits = scope.spawn(|| {
            let joined = queue.join(2, 1, &seat, None, || stopped.load(Ordering::Relaxed), || ());
            assert!(matches!(joined, Joined::Left(2)));
        });
        until_waiting(&queue, 1);
        // Without a cause the thread sleeps on.
        queue.wake(&seat);
        stopped.store(true, Ordering::Relaxed);
        queue.wake(&seat);
        waits.join().unwrap();
    });
    assert_eq!(leader.finish(), 0);
    assert_eq!(lead(&queue, 3).finish(), 3);
}

#[test]
fn a_panic_in_a_pass_gives_its_requests_back_and_lets_the_others_go_on() {
    let (queue, passes) = (BatchQueue::new(2, 1, |_| Duration::ZERO), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        let first = lead(&queue, 0);
        let panics = scope.spawn(|| {
            let Joined::Leads(mut leader) = queue.join(1, 1, &Seat::new(), None, || false, || ()) else { return false };
            assert_eq!(leader.requests(), [1, 2]);
            panic!("a pass that fails");
        });
        until_waiting(&queue, 1);
        let beside = scope.spawn(|| matches!(queue.join(2, 1, &Seat::new(), None, || false, || ()), Joined::CutOff(2)));
        until_waiting(&queue, 2);
        let waits = scope.spawn(|| join(&queue, 3, 1, &passes));
        until_waiting(&queue, 3);
        assert_eq!(first.finish(), 0);
        assert!(panics.join().is_err());
        assert!(beside.join().unwrap());
        assert_eq!(waits.join().unwrap(), 103);
    });
    assert_eq!(*passes.lock().unwrap(), [[3]]);
    assert_eq!(queue.lock().leaders, 0);
}

/// Leads a pass with another thread's request, whose seat is kept, and ends it.
fn pass_with(queue: &BatchQueue<u32>, own: &Arc<Seat>, other: &Arc<Seat>) {
    thread::scope(|scope| {
        let seat = Seat::new();
        let Joined::Leads(first) = queue.join(0, 1, &seat, None, || false, || ()) else { panic!("nobody else leads") };
        let leads = scope.spawn(|| match queue.join(1, 1, own, None, || false, || ()) {
            Joined::Leads(mut leader) => {
                assert_eq!(leader.requests(), [1, 2]);
                leader.finish()
            }
            _ => panic!("nobody else leads"),
        });
        until_waiting(queue, 1);
        let beside = scope.spawn(|| matches!(queue.join(2, 1, other, None, || false, || ()), Joined::Computed(2)));
        until_waiting(queue, 2);
        first.finish();
        queue.say_goodbye(&seat);
        assert_eq!(leads.join().unwrap(), 1);
        assert!(beside.join().unwrap());
    });
}

#[test]
fn a_pass_waits_for_the_threads_of_the_last_that_have_not_said_goodbye() {
    let queue = BatchQueue::new(10, 1, |_| Duration::from_hours(1));
    let (one, other) = (Seat::new(), Seat::new());
    pass_with(&queue, &one, &other);
    assert_eq!(queue.lock().expected.len(), 2);
    for goodbye in [false, true] {
        thread::scope(|scope| {
            let first = scope.spawn(|| match queue.join(3, 1, &one, None, || false, || ()) {
                Joined::Leads(mut leader) => {
                    let requests = leader.requests().to_vec();
                    leader.finish();
                    requests
                }
                _ => panic!("the first leads"),
            });
            until_waiting(&queue, 1);
            if goodbye {
                queue.say_goodbye(&other);
                assert_eq!(first.join().unwrap(), [3]);
            } else {
                assert!(matches!(queue.join(4, 1, &other, None, || false, || ()), Joined::Computed(4)));
                assert_eq!(first.join().unwrap(), [3, 4]);
            }
        });
    }
    queue.say_goodbye(&one);
    assert!(queue.lock().expected.is_empty());
}

#[test]
fn a_leader_that_waits_for_others_leaves_when_it_is_late() {
    let queue = BatchQueue::new(10, 1, |_| Duration::from_hours(1));
    let (one, other) = (Seat::new(), Seat::new());
    pass_with(&queue, &one, &other);
    let soon = Instant::now() + Duration::from_millis(2);
    assert!(matches!(queue.join(3, 1, &one, Some(soon), || false, || ()), Joined::Left(3)));
    // The other is not waited for once it has come.
    assert!(matches!(queue.join(4, 1, &other, None, || false, || ()), Joined::Leads(_)));
}

/// Counts what is suspended.
struct Guard<'a>(&'a Mutex<usize>);

impl<'a> Guard<'a> {
    fn new(count: &'a Mutex<usize>) -> Self {
        *count.lock().unwrap() += 1;
        Self(count)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap() -= 1;
    }
}

#[test]
fn threads_that_wait_are_suspended_and_those_that_lead_are_not() {
    let (queue, suspended) = (BatchQueue::new(10, 1, |_| Duration::ZERO), Mutex::new(0));
    let join = |request: u32| match queue.join(request, 1, &Seat::new(), None, || false, || Guard::new(&suspended)) {
        Joined::Leads(leader) => leader.finish(),
        Joined::Computed(request) => request,
        Joined::CutOff(_) | Joined::Left(_) => panic!("neither cut off nor stopped"),
    };
    thread::scope(|scope| {
        let first = lead(&queue, 0);
        let others = [1, 2, 3].map(|request| {
            let join = &join;
            let other = scope.spawn(move || join(request));
            until_waiting(&queue, request as usize);
            other
        });
        while *suspended.lock().unwrap() != 3 {
            thread::yield_now();
        }
        first.finish();
        assert_eq!(others.map(|other| other.join().unwrap()), [1, 2, 3]);
    });
    assert_eq!(*suspended.lock().unwrap(), 0);
}

#[test]
fn a_pass_has_an_equal_share_of_what_is_there() {
    let (queue, passes) = (BatchQueue::new(10, 2, |_| Duration::ZERO), Mutex::new(Vec::new()));
    let (one, other) = (lead(&queue, 0), lead(&queue, 0));
    thread::scope(|scope| {
        for request in 1..5 {
            let (queue, passes) = (&queue, &passes);
            scope.spawn(move || join(queue, request, 1, passes));
            until_waiting(queue, request as usize);
        }
        one.finish();
    });
    other.finish();
    // Of the four that wait and the one that is in a pass.
    assert_eq!(*passes.lock().unwrap(), [vec![1, 2, 3], vec![4]]);
    let state = queue.lock();
    assert_eq!((state.leaders, state.running), (0, 0));
}
