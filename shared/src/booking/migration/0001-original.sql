-- The tables of the system that shares them with us, where they are not there yet.

CREATE TABLE IF NOT EXISTS users (
  id serial PRIMARY KEY,
  email varchar(255) NOT NULL UNIQUE,
  username varchar(255) NOT NULL UNIQUE,
  date_of_birth date,
  name varchar(255),
  surname varchar(255),
  created_at timestamp NOT NULL DEFAULT current_timestamp,
  updated_at timestamp NOT NULL DEFAULT current_timestamp
);

CREATE TABLE IF NOT EXISTS rooms (
  id serial PRIMARY KEY,
  internal_id varchar(50) NOT NULL UNIQUE,
  name varchar(255),
  floor integer,
  bathrooms integer,
  beds integer,
  capacity integer,
  created_at timestamp NOT NULL DEFAULT current_timestamp,
  updated_at timestamp NOT NULL DEFAULT current_timestamp
);

CREATE TABLE IF NOT EXISTS bookings (
  id serial PRIMARY KEY,
  user_id integer NOT NULL REFERENCES users (id) ON DELETE CASCADE,
  room_id integer NOT NULL REFERENCES rooms (id) ON DELETE CASCADE,
  number_of_guests integer NOT NULL CHECK (number_of_guests > 0),
  start_date date NOT NULL,
  end_date date NOT NULL,
  payment_id varchar(255),
  status varchar(20) NOT NULL DEFAULT 'Accepted' CHECK (status IN ('Accepted', 'Cancelled', 'Refused')),
  created_at timestamp NOT NULL DEFAULT current_timestamp,
  updated_at timestamp NOT NULL DEFAULT current_timestamp,
  CONSTRAINT check_dates CHECK (end_date > start_date)
);
