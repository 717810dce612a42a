//! Optimal pairing of rows with columns: tracks with detections, objects with hypotheses.
//!
//! Costs come from the caller as whole numbers, so that sums are exact and their order is of no consequence. Promised of
//! the result: no other pairing has more pairs; among those with as many, none has a smaller total cost; among those as
//! cheap, it is the lexicographically smallest: row 0 has the smallest column it can have, then row 1, and so on, "no
//! column" counting as larger than every column. The result is therefore a function of the costs alone.
//!
//! Method: the matrix is padded to a square with entries that cost more than all pairs together; shortest augmenting
//! paths over dual prices (Jonker and Volgenant, "A shortest augmenting path algorithm for dense and sparse linear
//! assignment problems", Computing 38, 1987) give one optimum in O(n^3). The optimal pairings are then exactly the
//! perfect matchings among entries of reduced cost 0, and one search per row walks to the smallest of them, O(n^3) too.

/// Most rows or columns that are paired; those beyond stay without a partner. Keeps every sum below 2^62.
pub const MAX_SIDE: usize = 1 << 14;

const FREE: usize = usize::MAX;

/// A solver with its buffers. See the [module](self) for what it promises.
pub struct Assignment {
    /// Rows and columns of the padded square.
    side: usize,
    /// Cost of an entry that is no pair; larger than the cost of all pairs together.
    no_pair: i64,
    cost: Vec<i64>,
    row_price: Vec<i64>,
    column_price: Vec<i64>,
    column_of: Vec<usize>,
    row_of: Vec<usize>,
    /// Length of the shortest alternating path to a column, per column.
    distance: Vec<i64>,
    /// The row before a column on that path, per column; later the column a row moves to, per row.
    via: Vec<usize>,
    visited: Vec<bool>,
    queue: Vec<usize>,
    settled: Vec<Settled>,
    result: Vec<Option<usize>>,
}

/// What is already decided about a row while the smallest pairing is sought.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Settled {
    Not,
    Paired,
    Alone,
}

impl Assignment {
    /// A solver that allocates nothing while neither rows nor columns exceed `capacity`; beyond, its buffers grow.
    pub fn new(capacity: usize) -> Self {
        let side = capacity.min(MAX_SIDE);
        Assignment {
            side: 0,
            no_pair: 1,
            cost: Vec::with_capacity(side * side),
            row_price: Vec::with_capacity(side),
            column_price: Vec::with_capacity(side),
            column_of: Vec::with_capacity(side),
            row_of: Vec::with_capacity(side),
            distance: Vec::with_capacity(side),
            via: Vec::with_capacity(side),
            visited: Vec::with_capacity(side),
            queue: Vec::with_capacity(side),
            settled: Vec::with_capacity(side),
            result: Vec::with_capacity(side),
        }
    }

    /// Pairs `rows` with `columns`. `cost` says what a pair costs, `None` where the two must not be paired; it is asked
    /// once per entry. Returns the column of each row (of the first [`MAX_SIDE`] rows).
    pub fn solve(
        &mut self,
        rows: usize,
        columns: usize,
        cost: impl Fn(usize, usize) -> Option<u32>,
    ) -> &[Option<usize>] {
        let rows = rows.min(MAX_SIDE);
        let columns = columns.min(MAX_SIDE);
        self.load(rows, columns, cost);
        for row in 0..self.side {
            self.augment(row);
        }
        for row in 0..rows {
            self.settle(row, columns);
        }
        self.result.clear();
        for row in 0..rows {
            let column = self.column_of[row];
            self.result.push(self.is_pair(row, column).then_some(column));
        }
        &self.result
    }

    fn load(&mut self, rows: usize, columns: usize, cost: impl Fn(usize, usize) -> Option<u32>) {
        let side = rows.max(columns);
        self.side = side;
        self.no_pair = (side as i64) * i64::from(u32::MAX) + 1;
        self.cost.clear();
        self.cost.resize(side * side, self.no_pair);
        for row in 0..rows {
            for column in 0..columns {
                if let Some(cost) = cost(row, column) {
                    self.cost[row * side + column] = i64::from(cost);
                }
            }
        }
        refill(&mut self.row_price, side, 0);
        refill(&mut self.column_price, side, 0);
        refill(&mut self.column_of, side, FREE);
        refill(&mut self.row_of, side, FREE);
        refill(&mut self.settled, side, Settled::Not);
    }

    fn is_pair(&self, row: usize, column: usize) -> bool {
        self.cost[row * self.side + column] < self.no_pair
    }

    /// Cost above the two prices: never negative, and 0 on every entry of every optimum.
    fn reduced(&self, row: usize, column: usize) -> i64 {
        self.cost[row * self.side + column] - self.row_price[row] - self.column_price[column]
    }

    /// Gives one more row a column, along the cheapest alternating path, and keeps the prices feasible.
    fn augment(&mut self, start: usize) {
        refill(&mut self.distance, self.side, i64::MAX);
        refill(&mut self.via, self.side, FREE);
        refill(&mut self.visited, self.side, false);
        let mut row = start;
        let mut reached = 0;
        let mut end = FREE;
        while end == FREE {
            let nearest = self.extend_paths(row, reached);
            self.visited[nearest] = true;
            reached = self.distance[nearest];
            row = self.row_of[nearest];
            if row == FREE {
                end = nearest;
            }
        }
        self.reprice(start, reached);
        self.flip(start, end);
    }

    /// Lengthens the paths by the entries of `row`, and names the nearest column that was not visited. The square is
    /// full, so there is one as long as a row lacks a column.
    fn extend_paths(&mut self, row: usize, reached: i64) -> usize {
        let mut nearest = FREE;
        let mut shortest = i64::MAX;
        for column in 0..self.side {
            if self.visited[column] {
                continue;
            }
            let through = reached + self.reduced(row, column);
            if through < self.distance[column] {
                self.distance[column] = through;
                self.via[column] = row;
            }
            if self.distance[column] < shortest {
                shortest = self.distance[column];
                nearest = column;
            }
        }
        nearest
    }

    fn reprice(&mut self, start: usize, reached: i64) {
        self.row_price[start] += reached;
        for column in 0..self.side {
            let row = self.row_of[column];
            if self.visited[column] && row != FREE {
                let gain = reached - self.distance[column];
                self.row_price[row] += gain;
                self.column_price[column] -= gain;
            }
        }
    }

    fn flip(&mut self, start: usize, end: usize) {
        let mut column = end;
        loop {
            let row = self.via[column];
            let before = self.column_of[row];
            self.column_of[row] = column;
            self.row_of[column] = row;
            if row == start {
                return;
            }
            column = before;
        }
    }

    /// Moves `row` to the smallest column that an optimum allows which leaves the rows before it as they are.
    fn settle(&mut self, row: usize, columns: usize) {
        let held = self.column_of[row];
        let end = if self.is_pair(row, held) { held } else { columns };
        if (0..end).any(|column| self.is_candidate(row, column)) {
            self.find_movers(row);
            let better = (0..end).find(|&column| self.is_candidate(row, column) && self.visited[self.row_of[column]]);
            if let Some(column) = better {
                self.rotate(row, column);
            }
        }
        let paired = self.is_pair(row, self.column_of[row]);
        self.settled[row] = if paired { Settled::Paired } else { Settled::Alone };
    }

    fn is_candidate(&self, row: usize, column: usize) -> bool {
        self.is_pair(row, column) && self.reduced(row, column) == 0
    }

    /// Marks the rows that can give up their column, directly or by a chain of moves that ends in the column that
    /// `row` leaves.
    fn find_movers(&mut self, row: usize) {
        refill(&mut self.via, self.side, FREE);
        refill(&mut self.visited, self.side, false);
        self.visited[row] = true;
        self.queue.clear();
        self.queue.push(self.column_of[row]);
        let mut next = 0;
        while let Some(&column) = self.queue.get(next) {
            next += 1;
            for mover in 0..self.side {
                if !self.visited[mover] && self.may_move(mover, column) {
                    self.visited[mover] = true;
                    self.via[mover] = column;
                    self.queue.push(self.column_of[mover]);
                }
            }
        }
        self.visited[row] = false;
    }

    fn may_move(&self, row: usize, column: usize) -> bool {
        let allowed = match self.settled[row] {
            Settled::Not => true,
            Settled::Paired => false,
            Settled::Alone => !self.is_pair(row, column),
        };
        allowed && self.reduced(row, column) == 0
    }

    fn rotate(&mut self, row: usize, column: usize) {
        let left = self.column_of[row];
        let mut mover = row;
        let mut target = column;
        loop {
            let displaced = self.row_of[target];
            self.column_of[mover] = target;
            self.row_of[target] = mover;
            if target == left {
                return;
            }
            mover = displaced;
            target = self.via[mover];
        }
    }
}

fn refill<T: Clone>(values: &mut Vec<T>, len: usize, value: T) {
    values.clear();
    values.resize(len, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Fewest pairs missing, then least cost, then smallest columns, "none" largest: what an optimum minimises.
    type Rank = (usize, u64, Vec<usize>);

    fn rank(costs: &[Vec<Option<u32>>], columns: &[Option<usize>]) -> Option<Rank> {
        let mut total = 0;
        for (row, column) in columns.iter().enumerate() {
            if let Some(column) = column {
                total += u64::from(costs[row][*column]?);
            }
        }
        let missing = columns.iter().filter(|column| column.is_none()).count();
        Some((missing, total, columns.iter().map(|column| column.unwrap_or(usize::MAX)).collect()))
    }

    fn best_by_trying_all(costs: &[Vec<Option<u32>>], columns: usize) -> Rank {
        fn visit(costs: &[Vec<Option<u32>>], columns: usize, chosen: &mut Vec<Option<usize>>, best: &mut Option<Rank>) {
            if chosen.len() == costs.len() {
                let found = rank(costs, chosen).unwrap();
                if best.as_ref().is_none_or(|best| found < *best) {
                    *best = Some(found);
                }
                return;
            }
            let row = chosen.len();
            chosen.push(None);
            visit(costs, columns, chosen, best);
            chosen.pop();
            for column in 0..columns {
                if costs[row][column].is_some() && !chosen.contains(&Some(column)) {
                    chosen.push(Some(column));
                    visit(costs, columns, chosen, best);
                    chosen.pop();
                }
            }
        }
        let mut best = None;
        visit(costs, columns, &mut Vec::new(), &mut best);
        best.unwrap()
    }

    fn solved(costs: &[Vec<Option<u32>>], columns: usize) -> Vec<Option<usize>> {
        let mut solver = Assignment::new(1);
        solver.solve(costs.len(), columns, |row, column| costs[row][column]).to_vec()
    }

    #[test]
    fn nothing_pairs_with_nothing() {
        assert!(solved(&[], 0).is_empty());
        assert!(solved(&[], 3).is_empty());
        assert_eq!(solved(&[vec![], vec![]], 0), [None, None]);
    }

    #[test]
    fn more_pairs_win_over_cheaper_ones() {
        let costs = [vec![Some(0), Some(u32::MAX)], vec![Some(0), None]];
        assert_eq!(solved(&costs, 2), [Some(1), Some(0)]);
    }

    #[test]
    fn ties_go_to_the_smallest_columns() {
        let equal = vec![vec![Some(7); 4]; 3];
        assert_eq!(solved(&equal, 4), [Some(0), Some(1), Some(2)]);
        let one_column = vec![vec![Some(7)]; 3];
        assert_eq!(solved(&one_column, 1), [Some(0), None, None]);
    }

    #[test]
    fn a_solver_remembers_nothing() {
        let mut solver = Assignment::new(4);
        let first = solver.solve(3, 3, |row, column| Some((row * 5 + column * 3) as u32 % 7)).to_vec();
        solver.solve(2, 4, |row, column| (row != column).then_some(1));
        assert_eq!(solver.solve(3, 3, |row, column| Some((row * 5 + column * 3) as u32 % 7)), first);
    }

    fn costs(highest: u32) -> impl Strategy<Value = (Vec<Vec<Option<u32>>>, usize)> {
        (0usize..=6, 0usize..=6).prop_flat_map(move |(rows, columns)| {
            let entry = proptest::option::weighted(0.7, 0..=highest);
            let matrix = proptest::collection::vec(proptest::collection::vec(entry, columns), rows);
            (matrix, Just(columns))
        })
    }

    proptest! {
        #[test]
        fn equals_the_best_of_all_pairings_when_ties_abound((costs, columns) in costs(2)) {
            let found = rank(&costs, &solved(&costs, columns));
            prop_assert_eq!(found, Some(best_by_trying_all(&costs, columns)));
        }

        #[test]
        fn equals_the_best_of_all_pairings_over_the_whole_range((costs, columns) in costs(u32::MAX)) {
            let found = rank(&costs, &solved(&costs, columns));
            prop_assert_eq!(found, Some(best_by_trying_all(&costs, columns)));
        }
    }
}
